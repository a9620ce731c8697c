# bash completion for the df-* commands: options, and the values of those that have a choice, come from the command's
# own -h; all else are files.
_df_tools()
{
	local cur=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} words

	# "--form=a" is three words
	if [[ $cur == = ]]; then
		cur=
	elif [[ $option == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	if [[ $cur == -* ]]; then
		# "  -o, --output=FILE   ..." gives --output=, a flag gives --flag
		words=$("$1" --help 2>/dev/null | sed -n 's/^  \(-.,\|   \) \(--[a-z0-9-]*=\{0,1\}\).*/\2/p')
		mapfile -t COMPREPLY < <(compgen -W "$words --version" -- "$cur")
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
		return
	fi
	if [[ $option == --* ]]; then
		words=$("$1" --help 2>/dev/null | sed -n "s/^.* $option=\([a-z0-9-]*|[a-z0-9|-]*\).*/\1/p")
		mapfile -t COMPREPLY < <(compgen -W "${words//|/ }" -- "$cur")
		[[ -z $words ]] || return
	fi
	compopt -o default
	COMPREPLY=()
}
complete -F _df_tools "${BASH_SOURCE[0]##*/}"
