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
