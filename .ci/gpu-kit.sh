#!/bin/sh
# gpu-kit.sh BUILD - the folder BUILD/gpu-kit, and gpu-kit.tar.gz, for a GPU machine that has neither packages nor network.
#
# It is a small source tree with its build/: tests/cuda/check-gpu.sh runs there as here.  Programs find their shared
# libraries in build/lib by their RPATH.  The sources of the kernels are there to be compiled again (check-gpu.sh -r).
set -eu
build=$1
cd "$(dirname "$0")/.."
case $build in
/*) ;;
*) build=$PWD/$build ;;
esac
[ -e "$build/df-cuda.so" ] || {
	echo "gpu-kit: no nvcc, so no df-cuda.so" >&2
	exit 1
}
kit=$build/gpu-kit
rm -rf "$kit"
mkdir -p "$kit/build/bin" "$kit/build/tests" "$kit/build/bench" "$kit/build/lib" "$kit/tests/bench"

install -s -m 755 "$build"/bin/df-* "$kit/build/bin"
install -s -m 755 "$build/df-cuda.so" "$build/libdf_h5zstd.so" "$kit/build"
for program in tests/agree $(DF_LIST=1 tests/cuda/check-gpu.sh "$build") bench/bench_device bench/bench_step bench/bench_grad \
	bench/bench_project bench/random_model bench/random_rows; do
	[ ! -x "$build/$program" ] || install -s -m 755 "$build/$program" "$kit/build/$program"
done
for file in "$kit"/build/*/* "$kit"/build/*.so; do
	ldd "$file" 2>/dev/null || true
done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r lib; do
	case ${lib##*/} in
	libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | ld-linux*) ;;
	*) cp -L "$lib" "$kit/build/lib" && chmod 644 "$kit/build/lib/${lib##*/}" ;;
	esac
done
# The tests' only tool that is no one's own.
if path=$(command -v h5dump); then
	cp -L "$path" "$kit/build/bin"
	ldd "$path" | awk '$2 == "=>" && $3 ~ /hdf5|libsz|libaec/ { print $3 }' | while read -r lib; do
		cp -L "$lib" "$kit/build/lib"
	done
fi

# Sources: the tests' scripts and data, the kernels.
cp -R tests/cmd tests/cuda tests/run.sh "$kit/tests"
git ls-files lib cmd configs | grep -E '\.(h|cu|cc|c|yaml)$' | while read -r file; do
	mkdir -p "$kit/$(dirname "$file")"
	cp "$file" "$kit/$file"
done
cp Makefile "$kit"
# It must run from another place, with an empty environment.
try=$(mktemp -d)
trap 'rm -rf "$try"' EXIT
cp -R "$kit" "$try/kit"
for program in "$try"/kit/build/tests/* "$try"/kit/build/bin/df-*; do
	if env -i ldd "$program" | awk -v own="$try" '$2 == "=>" && index($3, own) != 1 { print $1 }' |
		grep -vE '^(libc|libm|libpthread|libdl|librt|libresolv)\.so'; then
		echo "gpu-kit: $program loads these from the system" >&2
		exit 1
	fi
done

tar -C "$build" -czf "$build/gpu-kit.tar.gz" gpu-kit
size=$(du -sm "$build/gpu-kit.tar.gz" | cut -f1)
echo "$build/gpu-kit.tar.gz: $size MB"
[ "$size" -lt 40 ] || {
	echo "gpu-kit: larger than 40 MB" >&2
	exit 1
}
