#!/bin/busybox sh
# What a module manager does, step by step as Magisk's installer and boot scripts do it (guide: "Developer guides";
# scripts/util_functions.sh: install_module), for a module without an installer of its own.
#
#   manager.sh install ZIP [ARCH [API]]    as the app does; refusing must leave nothing
#   manager.sh boot                        as the late-start service does after a reboot
#   manager.sh remove ID                   what the app's Remove button does; takes effect with the next boot
export ASH_STANDALONE=1
MODULES=/data/adb/modules
UPDATES=/data/adb/modules_update

ui_print() { echo "$1"; }
abort() {
    ui_print "$1"
    [ -n "$MODPATH" ] && rm -rf "$MODPATH"
    rmdir "$UPDATES" 2>/dev/null
    rm -rf "$TMPDIR"
    exit 1
}
set_perm() { chown "$2:$3" "$1" && chmod "$4" "$1"; }
set_perm_recursive() {
    find "$1" -type d | while read -r dir; do set_perm "$dir" "$2" "$3" "$4"; done
    find "$1" -type f | while read -r file; do set_perm "$file" "$2" "$3" "$5"; done
}

# Variables without a visible use are the ones a module may read.
# shellcheck disable=SC2034
install() {
    ZIPFILE=$1 ARCH=${2:-arm64} API=${3:-28} IS64BIT=true BOOTMODE=true MAGISK_VER_CODE=28100
    TMPDIR=/dev/tmp
    rm -rf "$TMPDIR"
    mkdir -p "$TMPDIR"
    unzip -qo "$ZIPFILE" module.prop -d "$TMPDIR" || abort "! cannot read the zip"
    # The managers read the id from the first line that has one and trust it as a directory name.
    MODID=$(sed -n 's/^id=//p' "$TMPDIR/module.prop" | head -n 1)
    MODPATH=$UPDATES/$MODID
    rm -rf "$MODPATH"
    mkdir -p "$MODPATH"
    unzip -qo "$ZIPFILE" -x 'META-INF/*' -d "$MODPATH" || abort "! cannot unpack the zip"
    set_perm_recursive "$MODPATH" 0 0 0755 0644
    set_perm_recursive "$MODPATH/system/bin" 0 2000 0755 0755
    # shellcheck disable=SC1091
    . "$MODPATH/customize.sh"
    mkdir -p "$MODULES/$MODID"
    touch "$MODULES/$MODID/update"
    cp "$MODPATH/module.prop" "$MODULES/$MODID/module.prop"
    rm -f "$MODPATH/customize.sh"
    rm -rf "$TMPDIR"
    ui_print "- Done"
}

boot() {
    for module in "$MODULES"/*; do
        [ -f "$module/remove" ] || continue
        [ -f "$module/uninstall.sh" ] && sh "$module/uninstall.sh"
        rm -rf "$module"
    done
    for module in "$UPDATES"/*; do
        [ -d "$module" ] || continue
        rm -rf "${MODULES:?}/${module##*/}"
        mv "$module" "$MODULES/"
    done
    rmdir "$UPDATES" 2>/dev/null
    for module in "$MODULES"/*; do
        [ -d "$module" ] || continue
        for file in "$module"/system/bin/*; do
            name=/system/bin/${file##*/}
            [ -e "$name" ] || touch "$name"
            # BusyBox's mountpoint knows directories alone. Mounted twice, it would outlast the module's update.
            grep -q " $name " /proc/mounts || mount --bind "$file" "$name"
        done
        [ -f "$module/service.sh" ] && sh "$module/service.sh" </dev/null >/dev/null 2>&1 &
    done
}

case $1 in
install) shift; install "$@" ;;
boot) boot ;;
remove) touch "$MODULES/$2/remove" ;;
*) exit 2 ;;
esac
