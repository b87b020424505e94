# Sourced by the installer of Magisk, KernelSU or APatch once the zip lies in $MODPATH, with their functions
# (ui_print, abort, set_perm) and variables (ARCH, API, BOOTMODE) set. Their `abort` removes $MODPATH; nothing outside it is touched
# before every check has passed, so that a refusal leaves the phone as it was.
# shellcheck shell=sh disable=SC2154

telltale_bin=$MODPATH/system/bin/telltale
telltale_data=/data/adb/telltale

if [ "$BOOTMODE" != true ]; then
    abort "! Install Telltale from the Magisk, KernelSU or APatch app: a recovery has another kernel and cannot tell what yours can do."
fi
if [ "$ARCH" != arm64 ]; then
    abort "! Telltale runs on 64-bit ARM phones; this device is $ARCH."
fi
if [ "$API" -lt 28 ]; then
    abort "! Telltale needs Android 9 (API 28) or later; this phone has API $API."
fi

set_perm "$telltale_bin" 0 0 0755
ui_print "- Trying what this kernel can do"
# 0: it can do the main job; anything else comes with one sentence.
telltale_reason=$("$telltale_bin" doctor --quick 2>&1)
telltale_status=$?
case $telltale_status in
0) ;;
1) abort "! ${telltale_reason:-This kernel cannot run Telltale.}" ;;
*) abort "! The check of this kernel failed (status $telltale_status): ${telltale_reason:-it said nothing}" ;;
esac

# From here on it will be installed. Configuration and evidence of an older version stay as they are.
umask 077
mkdir -p "$telltale_data"
chmod 0700 "$telltale_data"
if [ ! -f "$telltale_data/config.toml" ]; then
    cp "$MODPATH/config.toml" "$telltale_data/config.toml"
    chmod 0600 "$telltale_data/config.toml"
fi
# A new version deserves a new try.
rm -f "$telltale_data/hooks-off"
umask 022

for telltale_script in common.sh service.sh action.sh uninstall.sh; do
    set_perm "$MODPATH/$telltale_script" 0 0 0755
done

ui_print "- Telltale starts with the next boot of the phone"
ui_print "- Read it:   adb logcat -s telltale"
ui_print "- Configure: $telltale_data/config.toml"
ui_print "- It is for the phone's own user. Evidence stays on the phone; uninstalling removes it."
