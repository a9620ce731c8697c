#!/bin/bash
# --device cuda: a backend from a shared library, in C and in C++; what is said when there is none, or when it is not right.
. "$(dirname "$0")/lib.sh"
command -v cc >/dev/null 2>&1 || skip_all 'no cc here'
. "$SRC/tests/cmd/grad_data.sh"
unset DF_BACKEND_STRICT DF_CUDA_PLUGIN

# --- none ------------------------------------------------------------------------------------------------------------------

# Where there is nvcc, the build has one: these programs are alone.
mkdir -p alone/bin
cp "$BUILD/bin/df-train" alone/bin
exits 69 'no plug-in' alone/bin/df-train train.yaml -q --device cuda output_dir=none
says 'says where it was looked for, and what to do' \
	"^df-train: device 'cuda': this build has no such backend \(no df-cuda\.so in $T/alone/bin/, .*lib/df-tools/\); name one in DF_CUDA_PLUGIN, or use --device cpu$"
exits 69 'a name that is no file' env DF_CUDA_PLUGIN=./nowhere.so df-train train.yaml -q --device cuda:1 output_dir=none
says 'names it' "device 'cuda:1': DF_CUDA_PLUGIN=./nowhere.so: No such file or directory"
exits 64 'a device like it' df-train train.yaml -q --device cudal output_dir=none
ok 'the version' alone/bin/df-train --version
is_empty 'lists none' "$(grep '^backends.*cuda' "$T/out")"

# --- in C and in C++ -------------------------------------------------------------------------------------------------------

# build NAME [FLAG...]: NAME.so from NAME.c
build()
{
	cc -std=c11 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -O1 "-I$SRC/lib" "${@:2}" "$1.c" -o "$1.so" >log 2>&1 || {
		cat log
		echo "Bail out! $1.c could not be compiled"
		exit 1
	}
}
# losses FILE: rounded, as the products are
losses()
{
	h5dump -y -w 0 -m %.3f -d loss "$1" | grep -oE -- '-?[0-9]+\.[0-9]{3}' | paste -sd,
}
# works PLUGIN: gradients with it are those of the CPU, but for rounding
works()
{
	export DF_CUDA_PLUGIN=$1
	ok 'training with it' df-train train.yaml -vv --device cuda:1 output_dir="$2"
	says 'what it has not runs on the host' 'backend cuda: rmsnorm_fwd runs on the host'
	cp "$T/err" told
	is_empty 'its product does not' "$(grep 'gemm runs on the host' told)"
	is_empty 'and no memory is lost' "$(grep 'still allocated' told)"
	ok 'losses' df-grad -q -j 2 --device cuda -m "$CKPT" --losses pool.h5 -o on-device.h5
	is 'are those of the CPU' "$(losses on-device.h5)" "$(losses on-cpu.h5)"
	exits 69 'strictly' env DF_BACKEND_STRICT=1 df-grad -q --device cuda -m "$CKPT" --losses pool.h5 -o x.h5
	says 'is it not enough' 'backend cuda has no gather_rows of its own, and DF_BACKEND_STRICT forbids'
	unset DF_CUDA_PLUGIN
}
ok 'losses on the CPU' df-grad -q --device cpu -m "$CKPT" --losses pool.h5 -o on-cpu.h5
cp "$SRC/tests/plugin/backend.c" small.c
build small
works ./small.so c
is 'one slot of its own' "$(grep -c 'cuda multiplied by itself' told)" 1
is 'the only symbol is the table' "$(nm -D --defined-only small.so | awk '{ print $3 }')" df_backend_plugin
exits 69 'a number that there is not' env DF_CUDA_PLUGIN=small.so df-train train.yaml -q --device cuda:7 output_dir=none
says 'is for the plug-in to say' "device 'cuda:7': there are two of them, 0 and 1"
if command -v g++ >/dev/null 2>&1; then
	ok 'in C++' g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -shared -fPIC -fvisibility=hidden -O1 "-I$SRC/lib" \
		"$SRC/tests/plugin/backend.cc" -o plus.so
	works ./plus.so plus
	is 'its memory is counted' "$(grep -c 'cuda closed with 0 tensors' told)" 1
	ok 'the version' env DF_CUDA_PLUGIN=./plus.so df-train --version
	prints 'lists it' 'backends cpu .*, cuda \(in C\+\+\)$'
else
	skip 'a backend in C++' 'no g++ here'
fi

# Automatically: where there is the driver's library, and the plug-in says that it suits.
ok 'without its driver' df-train train.yaml -v --device auto output_dir=auto1 --until 1
is_empty 'auto does not load it' "$(grep 'cuda multiplied' "$T/err")"
sed 's|^	return &ops;|	ops.suits = suits;\n&|; s|^const struct df_backend_ops \*$|static bool suits(void) { return true; }\n&|' small.c >fits.c
build fits
echo 'int nothing;' >driver.c
build driver
mkdir -p driver && mv driver.so driver/libcuda.so.1
# with_driver PLUGIN OUT
with_driver()
{
	DF_CUDA_PLUGIN=./$1 LD_LIBRARY_PATH=$T/driver df-train train.yaml -vv output_dir="$2" --until 1
}
ok 'with it' with_driver fits.so auto2
says 'auto takes a plug-in that suits' 'cuda multiplied by itself'
ok 'and one' with_driver small.so auto3
is_empty 'that does not say so is left alone' "$(grep 'cuda multiplied' "$T/err")"
ok 'and one' with_driver driver/libcuda.so.1 auto4
says 'that is none is passed over' 'device auto: cuda: .*it is no backend'

# Where a build and an installation have it.
mkdir -p there/bin there/lib/df-tools
cp "$BUILD/bin/df-grad" there/bin
for at in there/bin there there/lib/df-tools; do
	cp small.so $at/df-cuda.so
	ok "in $at" there/bin/df-grad -q --device cuda -m "$CKPT" --losses pool.h5 -o found.h5
	rm $at/df-cuda.so
done

# --- what is no backend ----------------------------------------------------------------------------------------------------

# refuses NAME 'what' 'error'
refuses()
{
	exits 69 "$2" env DF_CUDA_PLUGIN="./$1" df-grad -q --device cuda -m "$CKPT" --losses pool.h5 -o x.h5
	says 'is named' "^df-grad: device 'cuda': \./$1: $3"
}
refuses pool.h5 'an HDF5 file' 'it cannot be loaded: '
echo 'int nothing;' >empty.c
build empty
refuses empty.so 'a library without the function' 'it is no backend: it exports no df_backend_plugin\(\)'
# bad NAME 'what' 'error' STATEMENT: small.c with a statement before the end of its last function
bad()
{
	sed "s|^	return &ops;|	$4\n&|" small.c >"$1.c"
	build "$1"
	refuses "$1.so" "$2" "$3"
}
bad version 'another version' 'it is made for version [0-9]+ of the backend interface, this is version [0-9]+: build it again' 'ops.api_version++;'
bad null 'no table' 'it does not know version [0-9]+ of the backend interface' 'return NULL;'
bad name 'another name' "its backend is called 'cpu', not 'cuda'" 'ops.name = "cpu";'
bad noname 'no name' "its backend is called '', not 'cuda'" 'ops.name = NULL;'
for slot in open close alloc free upload download sync op; do
	bad "no$slot" "no $slot" "its table has no $slot, which every backend needs" "ops.$slot = NULL;"
done
bad nogemm 'no product' 'its table has no op\[DF_OP_GEMM\], which every backend needs' 'op[DF_OP_GEMM] = NULL;'
bad product 'what is not its own' 'its table sets product, which is not for plug-ins' 'ops.product = (const void *)op;'
bad symbol 'a function that there is not' 'it cannot be loaded: .*undefined symbol: df_no_such_thing' \
	'extern int df_no_such_thing(void); if (df_no_such_thing()) return NULL;'
is_empty 'nothing was written' "$(find . -name 'x.h5*' -o -name none)"

done_testing
