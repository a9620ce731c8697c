#!/bin/sh
# bundle.sh BUILD NAME - a tarball BUILD/NAME.tar.xz that runs where nothing is installed.
#
# It carries every shared library that the programs load but glibc's own, which
# belong to the machine. The programs find them by their RPATH, $ORIGIN/../lib;
# RPATH and not RUNPATH, because it also serves the libraries' own libraries.
set -eu
build=$1
name=$2
cd "$(dirname "$0")/.."
case $build in
/*) ;;
*) build=$PWD/$build ;;
esac
stage=$build/$name
rm -rf "$stage" "$stage.tar.xz"
mkdir -p "$stage/bin" "$stage/lib" "$stage/hdf5" "$stage/man"

for program in "$build"/bin/df-*; do
	install -s -m 755 "$program" "$stage/bin"
done
[ ! -e "$build/libdf_h5zstd.so" ] || install -s -m 755 "$build/libdf_h5zstd.so" "$stage/hdf5"
# NVIDIA's libraries are not carried: the driver is the machine's, and cuBLASLt is only looked for.
[ ! -e "$build/df-cuda.so" ] || install -s -D -m 755 "$build/df-cuda.so" "$stage/lib/df-tools/df-cuda.so"

# --device openblas opens this one by its name.
openblas=$("${CC:-gcc}" -print-file-name=libopenblas.so.0)
[ -e "$openblas" ] || {
	echo "bundle: libopenblas.so.0 is not installed (Debian: libopenblas0-pthread)" >&2
	exit 1
}
cp -L "$openblas" "$stage/lib/libopenblas.so.0"
chmod 644 "$stage/lib/libopenblas.so.0"

for file in "$stage"/bin/* "$stage"/hdf5/* "$stage/lib/libopenblas.so.0"; do
	[ ! -e "$file" ] || ldd "$file"
done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r lib; do
	case ${lib##*/} in
	libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | ld-linux*) ;;
	*) cp -L "$lib" "$stage/lib" && chmod 644 "$stage/lib/${lib##*/}" ;;
	esac
done

cp -R configs pipelines LICENSE README.md "$stage"
cp man/*.[1-9] "$stage/man" 2>/dev/null || rmdir "$stage/man"
make -s install-completion DESTDIR= PREFIX="$stage"
cat >"$stage/INSTALL" <<EOF
df-tools $name

Put this folder anywhere and its bin/ into your PATH; nothing else is needed but
glibc $(ldd --version | head -n 1 | grep -o '[0-9.]*$') or newer. The programs are called by their manual: man man/df-tools.7

If there is an NVIDIA GPU with its driver, the programs use it (man/df-devices.7). On an H100 or a later GPU for computing,
cuBLASLt makes them faster: install NVIDIA's toolkit, or name the folder of libcublasLt.so.13 in DF_CUBLAS.

h5dump and other HDF5 programs read the files too when they find the plugin:
    export HDF5_PLUGIN_PATH=/path/to/$name/hdf5

The shell completes options, templates, datasets and keys:
    bash   for p in /path/to/$name/share/bash-completion/completions/*; do . "\$p"; done
    zsh    fpath=(/path/to/$name/share/zsh/site-functions \$fpath), before compinit
    fish   set -p fish_complete_path /path/to/$name/share/fish/vendor_completions.d
EOF

XZ_OPT=-T0 tar -C "$build" -cJf "$stage.tar.xz" --owner=0 --group=0 --sort=name "$name"
rm -rf "$stage"

# It must run from another place, with an empty environment, using its own libraries only.
try=$(mktemp -d)
trap 'rm -rf "$try"' EXIT
tar -C "$try" -xJf "$stage.tar.xz"
for program in "$try/$name"/bin/*; do
	(cd / && env -i "$program" --version >/dev/null)
	if env -i ldd "$program" | awk -v own="$try" '$2 == "=>" && index($3, own) != 1 { print $1 }' |
		grep -vE '^(libc|libm|libpthread|libdl|librt|libresolv)\.so'; then
		echo "bundle: $program still loads these from the system" >&2
		exit 1
	fi
done
# What it opens at run time, and what that needs.
(cd / && env -i LD_DEBUG=files "$try/$name/bin/df-train" --version) >"$try/out" 2>"$try/files"
grep -q 'openblas ([0-9]' "$try/out" || {
	echo "bundle: OpenBLAS cannot be loaded" >&2
	exit 1
}
[ ! -e "$build/df-cuda.so" ] || grep -q 'cuda (' "$try/out" || {
	echo "bundle: df-cuda.so cannot be loaded" >&2
	exit 1
}
if sed -n 's/.*calling init: //p' "$try/files" | grep -v "^$try/" | grep -E 'openblas|gfortran|quadmath'; then
	echo "bundle: these are loaded from the system" >&2
	exit 1
fi
ls -l "$stage.tar.xz"
