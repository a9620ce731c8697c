# bash completion for the df-* commands.  All words come from the programs themselves: options and their known values
# from --list-options (df-tools(7)), names of datasets, methods and keys from the program that lists them.

# The program in front of this command line, or one beside it: _df_run df-pack --list-datasets
_df_run()
{
	local beside=${COMP_WORDS[0]/#\~\//$HOME/} program=$1

	shift
	case $beside in
	*/*) beside=${beside%/*}/ ;;
	*) beside= ;;
	esac
	"$beside$program" "$@" 2>/dev/null
}

# The method of df-score or df-mix on this command line, if there is one: its options depend on it.
_df_method()
{
	local word methods program=${COMP_WORDS[0]##*/}

	[[ $program == df-score || $program == df-mix ]] || return
	methods=$(_df_run "$program" --list | sed '1d; s/ .*//')
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $'\n'$methods$'\n' != *$'\n'$word$'\n'* ]] || { echo "$word" && return; }
	done
}

# The table of options of this command line.
_df_options()
{
	local method

	method=$(_df_method)
	_df_run "${COMP_WORDS[0]##*/}" ${method:+"$method"} --list-options
}

# The value of --NAME on this command line, if there is one.
_df_given()
{
	local i word

	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i + 1]-}
		[[ $word != = ]] || word=${COMP_WORDS[i + 2]-}
		[[ ${COMP_WORDS[i]} != "$1" ]] || printf '%s\n' "${word/#\~\//$HOME/}"
	done
}

_df_datasets()
{
	local dir

	dir=$(_df_given --dataset-dir)
	_df_run df-pack ${dir:+--dataset-dir "$dir"} --list-datasets
}

# Offer the words that begin with $cur; with "files" files too, with "or-files" where there is no such word.
_df_offer()
{
	local IFS=$'\n'

	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
	if [[ -n ${2-} && ${#COMPREPLY[@]} -eq 0 ]]; then
		compopt -o default # readline's own way with files
	elif [[ ${2-} == files ]]; then
		compopt -o filenames
		mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$cur")
	fi
}

# The value of an option.
_df_value()
{
	local long=$1 type=$2 arg=$3 known=$4 before=

	[[ $known != - ]] || known=
	known=${known//|/$'\n'}
	case $long:$type in
	dataset:* | eval-dataset:*)
		[[ $cur != *,* ]] || before=${cur%,*},
		_df_offer "$(_df_datasets | sed "s|^|$before|")"
		;;
	holdout:*)
		_df_offer "$(_df_datasets | sed 's/$/=/')"
		compopt -o nospace
		;;
	*:choice) _df_offer "$known" ;;
	*:shard) _df_offer auto ;;
	*:integer | *:number | *:count) ;;
	*)
		case $arg in
		DIR) compopt -o dirnames ;;
		FILE | TOK | WHAT) _df_offer "$known" files ;; # a word or a path
		*) _df_offer "$known" or-files ;;
		esac
		;;
	esac
}

# A configuration's key, or the value of one: df-train c.yaml lr_scheduler_type=cosine
_df_keys()
{
	local key=$1

	if [[ -z $key ]]; then
		_df_offer "$(_df_run df-train --list-keys | sed -n 's/\t\(supported\|checked\)\t.*/=/p')" files
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
		return
	fi
	_df_offer "$(_df_run df-train --list-keys | awk -F '\t' -v key="$key" '
		$1 != key { next }
		$3 == "bool" { print "true\nfalse" }
		match($5, /\(one of .*\)$/) { s = substr($5, RSTART + 8, RLENGTH - 9); gsub(/, /, "\n", s); print s }')" or-files
}

_df_tools()
{
	local program=${COMP_WORDS[0]##*/} cur=${COMP_WORDS[COMP_CWORD]} name=${COMP_WORDS[COMP_CWORD - 1]} joined=''
	local long short type arg known rest

	COMPREPLY=()
	# "--form=a" is three words.
	if [[ $cur == = ]]; then
		cur='' joined=1
	elif [[ $name == = ]]; then
		name=${COMP_WORDS[COMP_CWORD - 2]} joined=1
	fi
	if [[ $name == -?* ]]; then
		while IFS=$'\t' read -r long short type arg known rest; do
			[[ $name == "--$long" || ($short != - && $name == "-$short") ]] || continue
			[[ $type != flag && ($type != count || -n $joined) ]] || break
			_df_value "$long" "$type" "$arg" "$known"
			return
		done < <(_df_options)
	fi
	if [[ $cur == -* ]]; then
		_df_offer "$(_df_options |
			awk -F '\t' -v cur="$cur" '
				{ print "--" $1 ($3 == "flag" || $3 == "count" ? "" : "=") }
				$3 == "flag" && cur ~ /^--no-/ { print "--no-" $1 }')"
		[[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace
	elif [[ $program == df-train ]]; then
		[[ -n $joined ]] || name=
		_df_keys "$name"
	elif [[ $program == df-score || $program == df-mix ]]; then
		_df_offer "$([[ -n $(_df_method) ]] || _df_run "$program" --list | sed '1d; s/ .*//')" files
	else
		_df_offer '' files
	fi
}
complete -F _df_tools "${BASH_SOURCE[0]##*/}"
