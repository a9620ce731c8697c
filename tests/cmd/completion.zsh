# completion.zsh DIRECTORY LINE - what zsh offers at the end of LINE when DIRECTORY is in fpath, a word on a line.
# An interactive zsh on a terminal of its own is asked for its list; its compadd writes down what it gets.
zmodload zsh/zpty
d=$(mktemp -d) || exit 1
cat >$d/init <<END
fpath=(${(q)1} \$fpath)
autoload -Uz compinit
compinit -D -u
compadd()
{
	local first=\${@[(i)(-|--)]}
	[[ -n \${(M)\${@[1,first]}:#-[OAD]*} ]] && { builtin compadd "\$@"; return; } # it asks, and adds nothing
	local -a words; local suffix=
	builtin compadd -A words "\$@"
	(( \${@[(I)-S]} )) && suffix=\$@[\${@[(I)-S]}+1]
	(( \$#words )) && print -rl -- \${^words}\$suffix >>$d/words
	builtin compadd "\$@"
}
list() { _main_complete 2>$d/err; : >$d/done }
zle -C list list-choices list
bindkey '^I' list
ready() { : >$d/ready }
zle -N zle-line-init ready
END
wait_for()
{
	for i in {1..1000}; do
		zpty -r z shown # or its terminal would be full one day
		[[ -e $1 ]] && return
		sleep 0.02
	done
	print "no ${1:t} after 20 s"
}
zpty -b z zsh -f -i
zpty -w z "source $d/init"
wait_for $d/ready
zpty -n -w z "$2"$'\t'
wait_for $d/done
zpty -d z
[[ ! -s $d/err ]] || cat $d/err
[[ ! -e $d/words ]] || sort -u $d/words
rm -rf $d
