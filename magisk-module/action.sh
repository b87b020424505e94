#!/system/bin/sh
# The manager's Action button: says how Telltale is doing, and starts it again where it is off.
MODDIR=${0%/*}
# shellcheck source=magisk-module/common.sh
. "$MODDIR/common.sh"

if [ -f "$HOOKS_OFF" ]; then
    echo "Telltale was off after three crashes (last: $(cat "$HOOKS_OFF"))."
    rm -f "$HOOKS_OFF"
    # Its supervisor may still be on its way out, and would be taken for one that is about to start the daemon.
    stop_one "$SUPERVISOR_PID" service.sh
fi
if running "$DAEMON_PID" telltale; then
    echo "Telltale is running (process $running_pid)."
    "$TELLTALE" status || echo "It does not answer yet."
elif running "$SUPERVISOR_PID" service.sh; then
    echo "Telltale is about to start."
else
    echo "Telltale was not running; starting it."
    # In a session of its own: it must outlive the manager's window.
    setsid /system/bin/sh "$MODDIR/service.sh" </dev/null >/dev/null 2>&1 &
fi
echo "Read what it says: adb logcat -s telltale"
