# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of kexecwatchctl. Made by tools/completions.py; do not edit.

_kexecwatchctl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local verb= options= with_file= with_value= count=0 i
    local -a arguments=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -* ]] || break
    done
    ((i == COMP_CWORD)) || verb=${COMP_WORDS[i]}
    case $verb in
    "")
        options="-h --help --version"
        arguments=('status verify map check collect reload discard mode hold history monitor config exec takeover install-units')
        ;;
    status)
        options="-h --help --json"
        ;;
    verify)
        options="-h --help --json"
        ;;
    map)
        options="-h --help --json --svg"
        with_file="--svg"
        ;;
    check)
        options="-h --help --json --explain --root"
        with_file="--root"
        arguments=('images reservation next-boot permission lockdown boot-files capture-memory initrd first-megabyte paging-levels dump-target panic rivals read-back hotplug removable-memory boot-memory...')
        ;;
    collect)
        options="-h --help --with-addresses"
        arguments=(FILE)
        ;;
    reload)
        options="-h --help"
        arguments=('crash reboot...')
        ;;
    discard)
        options="-h --help"
        arguments=('crash reboot')
        ;;
    mode)
        options="-h --help --json"
        arguments=('crash reboot' 'ensure follow observe off configured')
        ;;
    hold)
        options="-h --help --who --why"
        with_value="--who --why"
        arguments=(COMMAND...)
        ;;
    history)
        options="-h --help -n --lines --json"
        with_value="-n --lines"
        arguments=('crash reboot')
        ;;
    monitor)
        options="-h --help --json"
        ;;
    config)
        options="-h --help --json --check --config"
        with_file="--config"
        ;;
    exec)
        options="-h --help --dry-run"
        ;;
    takeover)
        options="-h --help --revert"
        ;;
    install-units)
        options="-h --help --remove --dry-run --root"
        with_file="--root"
        ;;
    esac
    # The arguments before this one; the value of an option is none.
    for ((i += 1; i < COMP_CWORD; i++)); do
        [[ " $with_file $with_value " == *" ${COMP_WORDS[i-1]} "* ]] && continue
        [[ ${COMP_WORDS[i]} == -* ]] || count=$((count + 1))
    done
    # An argument that may stand several times is the last one, and ends in "...".
    local last=$((${#arguments[@]} - 1))
    if ((last >= 0 && count > last)) && [[ ${arguments[last]} == *... ]]; then
        count=$last
    fi
    local words=${arguments[count]-}
    COMPREPLY=()
    if [[ " $with_file " == *" $before "* || $words == FILE && $word != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ " $with_value " == *" $before "* ]]; then
        return
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [[ $words == COMMAND... ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "${words%...}" -- "$word")
    fi
}
complete -F _kexecwatchctl kexecwatchctl
