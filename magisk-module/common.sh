# What service.sh, action.sh and uninstall.sh share; each sets MODDIR and sources it. BusyBox ash.
# shellcheck shell=sh disable=SC2034

TELLTALE=$MODDIR/system/bin/telltale
# Configuration, evidence and what the supervisor remembers. Outside the module: an update replaces that.
DATA=/data/adb/telltale
# Process ids of this boot.
SUPERVISOR_PID=$DATA/supervisor.pid
DAEMON_PID=$DATA/daemon.pid
# Holds the reason while hooks stay off after three crashes.
HOOKS_OFF=$DATA/hooks-off

# say PRIORITY TEXT: one line in logcat; PRIORITY is i, w or e.
say() {
    log -p "$1" -t telltale "$2" 2>/dev/null || echo "telltale: $2" >&2
}

# running PIDFILE WORD: the process it names lives and has WORD in its command line (the id may be another's by now).
running() {
    [ -f "$1" ] || return 1
    read -r running_pid <"$1" || return 1
    grep -q "$2" "/proc/$running_pid/cmdline" 2>/dev/null
}

# Ends supervisor and daemon and waits until both are gone, five seconds at most each.
stop_all() {
    stop_one "$SUPERVISOR_PID" service.sh
    stop_one "$DAEMON_PID" telltale
    stop_strays
}

# A daemon whose pid file is gone is still at its last writes, or was started by hand: it would make $DATA anew.
stop_strays() {
    tries=0
    while strays=$(stray_pids) && [ -n "$strays" ]; do
        signal=TERM
        if [ "$tries" -ge 50 ]; then signal=KILL; fi
        # shellcheck disable=SC2086
        kill -"$signal" $strays 2>/dev/null
        if [ "$tries" -ge 60 ]; then return; fi
        sleep 0.1
        tries=$((tries + 1))
    done
}

stray_pids() {
    for exe in /proc/[0-9]*/exe; do
        case "$(readlink "$exe" 2>/dev/null)" in
            "$TELLTALE" | "$TELLTALE (deleted)")
                pid=${exe#/proc/}
                echo "${pid%/exe}"
                ;;
        esac
    done
}

stop_one() {
    if running "$1" "$2"; then
        kill "$running_pid" 2>/dev/null
        tries=0
        while running "$1" "$2" && [ "$tries" -lt 50 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
        if running "$1" "$2"; then kill -9 "$running_pid" 2>/dev/null; fi
    fi
    rm -f "$1"
}
