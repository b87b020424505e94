#!/bin/busybox sh
# First process of the virtual machine: makes it look like Android to the module, runs the checks, switches off.
# What the host reads begins with `@@ `; the rest of the console is for a person.

/bin/busybox --install -s /bin
export PATH=/system/bin:/bin
mkdir -p /proc /sys /dev /tmp /data/adb/modules /data/system /apex
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /dev/socket
ip link set lo up
# An address that is neither private nor loopback, so that sending there is leaving.
ip address add 203.0.113.1/32 dev lo
# Android 9 runs with this; a program that needs kernel symbols must fail here too.
echo 2 >/proc/sys/kernel/kptr_restrict

/checks.sh
echo "@@ end"
poweroff -f
