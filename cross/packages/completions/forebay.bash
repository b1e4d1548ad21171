# Made of the help of the binary: MANUAL=write cargo test --test manual
_forebay() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    local options= words= operand=
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "init run check config reload stats top append read inspect verify repair ledger cursor deadletter demo --help --version" -- "$word")
        return
    fi
    case "$verb $previous" in
        "init --stream") return ;;
        "init --data-dir") mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        "init --disk") return ;;
        "init --input") return ;;
        "init --sink") return ;;
        "init --http") return ;;
        "run --drain") return ;;
        "run --deadline") return ;;
        "reload --timeout") return ;;
        "top --interval") return ;;
        "top --count") return ;;
        "append --key") return ;;
        "append --format") mapfile -t COMPREPLY < <(compgen -W "lines ndjson" -- "$word"); return ;;
        "read --from") return ;;
        "read --to") return ;;
        "read --format") mapfile -t COMPREPLY < <(compgen -W "log ndjson raw" -- "$word"); return ;;
        "deadletter --from") return ;;
        "deadletter --to") return ;;
        "deadletter --config") mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        "demo --seconds") return ;;
        "demo --dir") mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    esac
    case $verb in
        init) options="--ask --stream --data-dir --disk --input --sink --http --help --help" ;;
        run) options="--drain --deadline --help --help" operand=-f ;;
        check) options="--connect --help --help" operand=-f ;;
        config) options="--help --help" operand=-f ;;
        reload) options="--timeout --help --help" operand=-f ;;
        stats) options="--json --help --help" operand=-f ;;
        top) options="--interval --count --help --help" operand=-f ;;
        append) options="--key --format --help --help" operand=-f ;;
        read) options="--from --to --follow --salvage --kinesis-envelope --format --help --help" operand=-d ;;
        inspect) options="--json --help --help" operand=-d ;;
        verify) options="--help --help" operand=-d ;;
        repair) options="--apply --help --help" operand=-d ;;
        ledger) options="--json --help --help" operand=-d ;;
        cursor) options="--dry-run --json --help --help" words="list seek skip remove" operand=-d ;;
        deadletter) options="--all --from --to --config --dry-run --json --help --help" words="list show reinject drop" operand=-d ;;
        demo) options="--seconds --dir --keep --help --help" ;;
    esac
    if [ "${word:0:1}" = - ]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [ "$COMP_CWORD" = 2 ] && [ -n "$operand" ]; then
        mapfile -t COMPREPLY < <(compgen "$operand" -- "$word")
    elif [ "$COMP_CWORD" = 3 ] && [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    fi
}
complete -o filenames -F _forebay forebay
