#!/system/bin/sh
# Started by the manager late in the boot, beside it and not before it. Keeps the daemon running: restarts it with
# growing pauses, and after three crashes in ten minutes leaves it off and says so.
MODDIR=${0%/*}
# shellcheck source=magisk-module/common.sh
. "$MODDIR/common.sh"

# Seconds to wait before the first, second, third … restart in a row; the last one repeats.
PAUSES="5 30 60 120 300"
# This many crashes within WINDOW seconds keep the hooks off.
CRASHES=3
WINDOW=600
# Seconds to wait for the end of the boot at most; a phone that never says so is still watched.
BOOT_WAIT=300

umask 077

uptime_seconds() {
    read -r uptime_now _ </proc/uptime
    echo "${uptime_now%.*}"
}

wait_for_boot() {
    waited=0
    while [ "$(getprop sys.boot_completed)" != 1 ] && [ "$waited" -lt "$BOOT_WAIT" ]; do
        sleep 2
        waited=$((waited + 2))
    done
}

# KernelSU and APatch mount system/ only with a further module; a link gives root `telltale` there too.
link_for_root() {
    for bin in /data/adb/ksu/bin /data/adb/ap/bin; do
        [ -d "$bin" ] || continue
        # A file of that name would be somebody else's.
        if [ -L "$bin/telltale" ] || [ ! -e "$bin/telltale" ]; then ln -sf "$TELLTALE" "$bin/telltale"; fi
    done
}

# run_once: the daemon, until it ends; its exit status.
run_once() {
    # A full or read-only /data must not keep the daemon from starting.
    words_to=$DATA/last-words
    ( : >"$words_to" ) 2>/dev/null || words_to=/dev/null
    set -- run --store "$DATA"
    # Without the file the defaults hold.
    if [ -f "$DATA/config.toml" ]; then set -- "$@" --config "$DATA/config.toml"; fi
    "$TELLTALE" "$@" </dev/null >/dev/null 2>"$words_to" &
    daemon=$!
    echo "$daemon" >"$DAEMON_PID" 2>/dev/null
    wait "$daemon"
}

# crashed_too_often NOW: adds a crash and says whether it was one too many. Times are seconds since boot: the wall
# clock of a phone jumps from 1970 to today some time after boot.
crashed_too_often() {
    recent=
    count=1
    for at in $crash_times; do
        if [ $(($1 - at)) -lt "$WINDOW" ]; then
            recent="$recent $at"
            count=$((count + 1))
        fi
    done
    crash_times="$recent $1"
    [ "$count" -ge "$CRASHES" ]
}

# how_it_ended STATUS: in words.
how_it_ended() {
    if [ "$1" -gt 128 ]; then
        echo "killed by signal $(($1 - 128))"
    else
        echo "ended with status $1"
    fi
}

supervise() {
    crash_times=
    pauses=$PAUSES
    while true; do
        started=$(uptime_seconds)
        run_once
        status=$?
        # Asked to stop: by its user, or because there is nothing to do here.
        [ "$status" -eq 0 ] && return
        now=$(uptime_seconds)
        ended=$(how_it_ended "$status")
        words=$(tail -n 1 "$DATA/last-words" 2>/dev/null)
        if crashed_too_often "$now"; then
            echo "$ended${words:+: $words}" >"$HOOKS_OFF"
            say e "Telltale crashed $CRASHES times in ten minutes (last: $ended) and stays off; nothing is watched. Press Action in the manager to try again."
            return
        fi
        # A long life earns the short pause again.
        if [ $((now - started)) -ge "$WINDOW" ]; then pauses=$PAUSES; fi
        pause=${pauses%% *}
        case $pauses in *" "*) pauses=${pauses#* } ;; esac
        say w "Telltale $ended${words:+ ($words)} and starts again in $pause seconds; what was sent meanwhile is not seen."
        sleep "$pause" &
        wait $!
    done
}

mkdir -p "$DATA" && chmod 0700 "$DATA"
if running "$SUPERVISOR_PID" service.sh; then exit 0; fi
echo $$ >"$SUPERVISOR_PID"
daemon=
trap 'trap - TERM; [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; rm -f "$SUPERVISOR_PID" "$DAEMON_PID"; exit 0' TERM

link_for_root
wait_for_boot
if [ -f "$HOOKS_OFF" ]; then
    say e "Telltale stays off after three crashes (last: $(cat "$HOOKS_OFF")); nothing is watched. Press Action in the manager to try again."
else
    supervise
fi
rm -f "$SUPERVISOR_PID" "$DAEMON_PID"
