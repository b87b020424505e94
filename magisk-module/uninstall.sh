#!/system/bin/sh
# Run by the manager when the module is removed: nothing of Telltale stays behind, the evidence included, unless
# the configuration says `keep_on_uninstall = true`.
MODDIR=${0%/*}
# shellcheck source=magisk-module/common.sh
. "$MODDIR/common.sh"

stop_all
for bin in /data/adb/ksu/bin /data/adb/ap/bin; do
    # Only our own link: a file of that name would be somebody else's.
    if [ -L "$bin/telltale" ]; then rm -f "$bin/telltale"; fi
done
if grep -Eq '^[[:space:]]*keep_on_uninstall[[:space:]]*=[[:space:]]*true' "$DATA/config.toml" 2>/dev/null; then
    rm -f "$SUPERVISOR_PID" "$DAEMON_PID" "$HOOKS_OFF" "$DATA/last-words"
else
    rm -rf "$DATA"
fi
