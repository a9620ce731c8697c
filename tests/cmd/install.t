#!/bin/bash
# make install and make uninstall, and what is installed: programs that run from there, their manual, completion (completion.t: what it offers).
. "$(dirname "$0")/lib.sh"
command -v make >/dev/null 2>&1 || skip_all 'no make here'
unset MAKEFLAGS MFLAGS MAKELEVEL # of make check
case $BUILD in
*san) skip_all 'the same as without sanitizers' ;;
esac

# Nothing is built here: what a build of other flags would rebuild is not this test's to say.
mk()
{
	make -s -C "$SRC" BUILD="$BUILD" DESTDIR="$T/root" PREFIX=/opt/df "$@"
}
ok 'make install' mk -o all install
at=root/opt/df
is 'every program' "$(cd $at/bin && echo df-*)" "$(cd "$SRC/cmd" && printf '%s\n' df-*.c | sed 's/\.c$//' | tr '\n' ' ' | sed 's/ $//')"
is 'every page' "$(find $at/share/man -type f | sed 's|.*/||' | sort | tr '\n' ' ')" \
	"$(cd "$SRC/man" && printf '%s\n' *.[1-9] | sort | tr '\n' ' ')"
ok 'programs run from there' env -u HDF5_PLUGIN_PATH "$at/bin/df-show" --version
[ -e $at/lib/df-tools/hdf5/libdf_h5zstd.so ] && [ -e $at/share/df-tools/configs/tiny-sft.yaml ] &&
	[ -x $at/share/df-tools/pipelines/less.sh ]
report $? 'the plugin, configurations and pipelines'

for p in "$at"/bin/*; do
	p=${p##*/}
	[ -s "$at/share/bash-completion/completions/$p" ] && [ -s "$at/share/fish/vendor_completions.d/$p.fish" ]
	report $? "$p: completion for bash and fish"
done
[ -s $at/share/zsh/site-functions/_df-tools ]
report $? 'and for zsh'

# Headers for plug-ins: each compiles alone, and a plug-in that saw no others runs in the installed program.
find "$at/include/df-tools" -name '*.h' | while read -r h; do
	echo "#include \"${h#"$at"/include/df-tools/}\"" |
		cc -std=c11 -Wall -Wextra -Werror "-I$at/include/df-tools" -fsyntax-only -x c - || echo "$h"
done >wrong 2>&1
is_empty 'installed headers compile alone' "$(cat wrong)"
ok 'a plug-in is compiled with them' cc -std=c11 -shared -fPIC "-I$at/include/df-tools" "$SRC/tests/plugin/shortest.c" -o shortest.so
ok 'and loaded by the installed program' env -u HDF5_PLUGIN_PATH "$at/bin/df-score" --plugin ./shortest.so --list
prints 'which lists its method' '^shortest '

ok 'make uninstall' mk uninstall
is_empty 'leaves nothing' "$(find root ! -type d)"
is_empty 'no directory of its own either' "$(find root -name '*df-tools*')"

done_testing
