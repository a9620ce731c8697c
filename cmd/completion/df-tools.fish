# fish completion for the df-* commands.  All words come from the programs themselves: options and their known values
# from --list-options (df-tools(7)), names of datasets, methods and keys from the program that lists them.

# The program in front of this command line, or one beside it: __df_run df-pack --list-datasets
function __df_run
    set -l beside (string match -r '^.*/' -- (commandline -opc)[1])
    set -q beside[1]; or set beside ""
    set beside (string replace -r '^~/' "$HOME/" -- $beside)
    command $beside$argv[1] $argv[2..-1] 2>/dev/null
end

function __df_datasets
    set -l words (commandline -opc)
    set -l dir
    for i in (seq (count $words))
        string match -q -- '--dataset-dir=*' $words[$i]; and set dir (string replace -- '--dataset-dir=' '' $words[$i])
        test $words[$i] = --dataset-dir; and set dir $words[(math $i + 1)]
    end
    test -n "$dir"; and set dir --dataset-dir (string replace -r '^~/' "$HOME/" -- $dir)
    __df_run df-pack $dir --list-datasets
end

# Names after the last comma of what is typed.
function __df_dataset_list
    set -l before (string match -r '^(?:--[a-z-]*=)?(.*,)?' -- (commandline -ct))[2]
    set -q before[1]; or set before ""
    for name in (__df_datasets)
        echo $before$name
    end
end

function __df_keys
    set -l key (string match -r '^[^=]+(?==)' -- (commandline -ct))
    for line in (__df_run df-train --list-keys)
        set -l column (string split \t -- $line)
        if not set -q key[1]
            contains -- $column[2] supported checked; and printf '%s=\t%s\n' $column[1] $column[5]
        else if test $key = $column[1]
            test $column[3] = bool; and printf "$key=%s\n" true false
            set -l words (string match -r '\(one of (.*)\)$' -- $column[5])[2]
            set -q words[1]; and printf "$key=%s\n" (string split ', ' -- $words)
        end
    end
end

function __df_methods
    __df_run (string replace -r '.*/' '' -- (commandline -opc)[1]) --list | string replace -r ' .*' '' | string match -v method
end

function __df_no_method_yet
    not string match -qr '^('(string join '|' (__df_methods))')$' -- (commandline -opc)[2..-1]
end

# Offer the options in the lines of a table: __df_options PROGRAM CONDITION LINE...
function __df_options
    for line in $argv[3..-1]
        set -l column (string split \t -- $line)
        set -l option -c $argv[1] -l $column[1] -d $column[6]
        test $column[2] = -; or set -a option -s $column[2]
        test -z "$argv[2]"; or set -a option -n $argv[2]
        switch "$column[1]:$column[3]:$column[4]"
            case '*:flag:*' '*:count:*'
                complete $option
            case 'dataset:*' 'eval-dataset:*'
                complete $option -x -a '(__df_dataset_list)'
            case 'holdout:*'
                complete $option -x -a '(__df_datasets | string replace -r \$ =)'
            case '*:shard:*'
                complete $option -x -a auto
            case '*:integer:*' '*:number:*'
                complete $option -x
            case '*:DIR'
                complete $option -x -a '(__fish_complete_directories)'
            case '*'
                set -l words
                test $column[5] = -; or set words (string split '|' -- $column[5])
                # A word or a path, or a word alone.
                if not set -q words[1]; or contains -- $column[4] FILE TOK WHAT NAME
                    complete $option -r -a "$words"
                else
                    complete $option -x -a "$words"
                end
        end
    end
end

set -l program (string replace -r '\.fish$' '' -- (status basename))
set -l common (command $program --list-options 2>/dev/null)
__df_options $program '' $common
switch $program
    case df-train
        complete -c $program -a '(__df_keys)'
    case df-score df-mix
        complete -c $program -n __df_no_method_yet -a '(__df_run '$program' --list | string replace -r " +" \t)[2..-1]'
        # A method's own options are offered after its name.
        for method in (command $program --list 2>/dev/null | string replace -r ' .*' '')[2..-1]
            for line in (command $program $method --list-options 2>/dev/null)
                string match -q -- (string replace -r '\t.*' '' -- $line)\t\* $common
                or __df_options $program "contains $method (commandline -opc)" $line
            end
        end
end
