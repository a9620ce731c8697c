# bash completion for the df-* commands: option names come from the command's own -h, words after them are files.
_df_tools()
{
	local cur=${COMP_WORDS[COMP_CWORD]}

	if [[ $cur == -* ]]; then
		# "  -o, --output=FILE   ..." gives --output=, a flag gives --flag
		local names
		names=$("$1" --help 2>/dev/null | sed -n 's/^  \(-.,\|   \) \(--[a-z0-9-]*=\{0,1\}\).*/\2/p')
		mapfile -t COMPREPLY < <(compgen -W "$names --help --version" -- "$cur")
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
	else
		compopt -o default
		COMPREPLY=()
	fi
}
complete -F _df_tools "${BASH_SOURCE[0]##*/}"
