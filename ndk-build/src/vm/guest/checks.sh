#!/bin/busybox sh
# What the virtual machine tries: refusals, installation, the first boot, sending, crashes, an update, removal.
# Each check reports `@@ ok NAME` or `@@ FAIL NAME: WHY`; `@@ logd PHASE LINE` hands what logd got to the host, which decodes it.
ZIP=/telltale.zip
DATA=/data/adb/telltale
LOG=/tmp/logdw
COLLECTOR=203.0.113.1

ok() { echo "@@ ok $1"; }
fail() { echo "@@ FAIL $1: $2"; }

# tree: every file that a refusal or a removal must leave as it was.
tree() { find /data /system -type f -o -type l -o -type d | sort | xargs ls -ld 2>/dev/null | awk '{print $1, $3, $4, $NF}'; }

# refused NAME WORDS COMMAND…: it fails, says one sentence with WORDS in it, and changes nothing.
refused() {
    name=$1 words=$2
    shift 2
    before=$(tree)
    said=$("$@" 2>&1)
    status=$?
    after=$(tree)
    reason=$(echo "$said" | grep '^!')
    if [ "$status" -eq 0 ]; then
        fail "$name" "it was installed"
    elif [ "$(echo "$reason" | wc -l)" -ne 1 ] || ! echo "$reason" | grep -qi "$words"; then
        fail "$name" "it said: $(echo "$said" | tr '\n' '|')"
    elif [ "$before" != "$after" ]; then
        fail "$name" "it left something behind"
    else
        echo "   $reason"
        ok "$name"
    fi
}

# A kernel without uprobes, as far as a program can tell: no tracefs, no uprobe PMU.
without_uprobes() {
    unshare -m sh -c 'mount -t tmpfs none /sys/kernel/tracing; mount -t tmpfs none /sys/kernel/debug
        mount -t tmpfs none /sys/bus/event_source/devices; exec "$@"' sh "$@"
}

# await SECONDS COMMAND…: until it succeeds.
await() {
    left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.2
    done
}

daemon_pid() { cat "$DATA/daemon.pid" 2>/dev/null; }
daemon_lives() { pid=$(daemon_pid) && [ -n "$pid" ] && [ -d "/proc/$pid" ] && [ "$pid" != "$1" ]; }
# The daemon's hooks are perf events, however they were attached.
hooked() {
    for fd in "/proc/$(daemon_pid)/fd"/*; do
        if [ "$(readlink "$fd")" = 'anon_inode:[perf_event]' ]; then return 0; fi
    done
    return 1
}

start_logd() {
    /system/bin/logd "$LOG" &
    LOGD=$!
    await 5 test -S /dev/socket/logdw
}

# logged TEXT: a line since the last hand-over has it. The reader writes what it got in hexadecimal.
logged() { grep -q "$(printf %s "$1" | od -An -v -tx1 | tr -d ' \n')" "$LOG"; }

# hand_over PHASE: what logd got so far, to the host.
hand_over() {
    sed "s/^/@@ logd $1 /" "$LOG"
    : >"$LOG"
}

boot() {
    /manager.sh boot
    await 30 test -s "$DATA/daemon.pid"
}

# send UID SAMPLE HOST
send() {
    /system/bin/tls-client --connect "$COLLECTOR:$PORT" --host "$3" --uid "$1" --file "/samples/$2" --partial --wait 300 >/dev/null ||
        fail "send-$2" "the client failed"
}

# plain CLIENT ARGUMENTS…: sends in clear; what arrived goes to the host, which compares it with the daemon's account.
plain() {
    if said=$("$@"); then echo "@@ arrived $said"; else fail plain "$* failed"; fi
}

# segfault PID: Rust's handler lets the first SIGSEGV pass that no bad access caused, and steps aside for the next.
segfault() {
    kill -SEGV "$1"
    sleep 1
    kill -SEGV "$1" 2>/dev/null
}

# send_again UID: one sample from an app that has not sent it before, so that it deserves a line of its own.
send_again() { send "$1" "$AGAIN" "$AGAIN_HOST"; }

# Written by the host: send_samples, send_plain, AGAIN and AGAIN_HOST.
# shellcheck disable=SC1091
. /samples.sh

start_logd
mkfifo /tmp/collector-in
sh -c 'exec /system/bin/tls-collector 203.0.113.1 </tmp/collector-in >/tmp/collector' &
exec 5>/tmp/collector-in
await 20 grep -q '^port=' /tmp/collector
PORT=$(sed -n 's/^port=//p' /tmp/collector)

refused refuse-x86_64 "this device is x64" /manager.sh install "$ZIP" x64
refused refuse-api-27 "API 27" /manager.sh install "$ZIP" arm64 27
refused refuse-no-uprobes "uprobe" without_uprobes /manager.sh install "$ZIP"

# As KernelSU leaves it: `telltale` must be found there too.
mkdir -p /data/adb/ksu/bin
if /manager.sh install "$ZIP"; then ok install; else fail install "the manager refused"; fi
if [ -f "$DATA/config.toml" ]; then ok default-config; else fail default-config "there is none"; fi
if boot; then
    ok boot
else
    fail boot "no daemon within 30 seconds, last words: $(cat "$DATA/last-words")"
    hand_over boot
    exit
fi
if [ "$(command -v telltale)" = /system/bin/telltale ]; then ok on-path; else fail on-path "telltale is not on PATH"; fi
if await 60 hooked; then ok hooks; else fail hooks "nothing is hooked after 60 seconds"; fi
if /data/adb/ksu/bin/telltale --version >/dev/null; then ok on-kernelsu-path; else fail on-kernelsu-path "no link in /data/adb/ksu/bin"; fi
sleep 2

send_samples
sleep 5
hand_over samples

# An app that seals its report with a cipher of its own before TLS. It is met by its connection, watched, and read; the programs
# for that are loaded when the first such app is met, which takes its time under emulation.
/system/bin/sealed-client "uid:$SEALED_UID" open:tracking.intl.miui.com pause:15000 file:/sealed-report evp:ecb:0 \
    'http:/track/v4:tracking.intl.miui.com:OT_sender: com.miui.player|Content-Type: application/octet-stream' send pause:1000 >/dev/null ||
    fail sealed "the client failed"
sleep 3
hand_over sealed

# Programs of 32 and 64 bits, whose calls have other numbers, send in clear and through TLS of their own. To an address that is
# answered here and is none of the machine's own: what a socket sends to those stays.
ip route add local 198.51.100.0/24 dev lo
chmod 1777 /tmp
send_plain
sleep 3
echo "@@ status $(telltale status --store "$DATA" --json)"
hand_over plain

# A phone switches processors off and on all day: what is sent meanwhile is read, and so is what goes out on the one that came back.
cpu1=/sys/devices/system/cpu/cpu1/online
# read_on_cpu1 UID: sends from that processor, until a line says so: its ring is opened again when the daemon next looks.
read_on_cpu1() {
    taskset 2 /system/bin/tls-client --connect "$COLLECTOR:$PORT" --host "$AGAIN_HOST" --uid "$1" --file "/samples/$AGAIN" --partial >/dev/null
    sleep 1
    logged "uid=$1"
}
pid=$(daemon_pid)
touch /tmp/traffic
while [ -e /tmp/traffic ]; do send_again 10208; done &
traffic=$!
if await 30 logged "uid=10208"; then ok cpu-before; else fail cpu-before "nothing read before cpu1 went"; fi
if echo 0 >"$cpu1" && [ "$(cat /sys/devices/system/cpu/online)" = 0 ]; then ok cpu-off; else fail cpu-off "cpu1 stays"; fi
send_again 10209
if await 30 logged "uid=10209"; then ok cpu-away; else fail cpu-away "nothing read while cpu1 was away"; fi
if echo 1 >"$cpu1" && [ "$(cat /sys/devices/system/cpu/online)" = 0-1 ]; then ok cpu-on; else fail cpu-on "cpu1 does not come back"; fi
if await 6 read_on_cpu1 10210; then ok cpu-back; else fail cpu-back "nothing read of what cpu1 sent after it came back"; fi
# Away and back before anybody looks.
echo 0 >"$cpu1"
echo 1 >"$cpu1"
if await 6 read_on_cpu1 10211; then ok cpu-blink; else fail cpu-blink "nothing read of what cpu1 sent after it was away for a moment"; fi
rm /tmp/traffic
wait "$traffic"
if daemon_lives "" && [ "$(daemon_pid)" = "$pid" ]; then ok cpu-lives; else fail cpu-lives "the daemon ended"; fi
hand_over cpu

# logd goes and comes back, as when it crashes on a phone.
kill "$LOGD"
rm -f /dev/socket/logdw
sleep 1
send_again 10201
sleep 3
start_logd
send_again 10202
sleep 5
if [ -s "$LOG" ]; then ok logd-back; else fail logd-back "no line after logd came back"; fi
hand_over logd-back

# A full disk: the daemon goes on, and so does the log.
pid=$(daemon_pid)
mount -t tmpfs -o size=64k none "$DATA.full" 2>/dev/null || { mkdir "$DATA.full" && mount -t tmpfs -o size=64k none "$DATA.full"; }
cp -a "$DATA/." "$DATA.full/" 2>/dev/null
mount --bind "$DATA.full" "$DATA"
dd if=/dev/zero of="$DATA/fill" bs=1k 2>/dev/null
send_again 10203
sleep 3
if [ -d "/proc/$pid" ]; then ok full-disk; else fail full-disk "the daemon ended"; fi
umount "$DATA"; umount "$DATA.full"; rmdir "$DATA.full"
hand_over full-disk

# The wall clock of a phone jumps: 1970 at boot (the kernel takes nothing before its own start), today a little later.
date -s '1970-01-02 00:00:00' >/dev/null
send_again 10204
sleep 1
date -s '2026-11-21 12:00:00' >/dev/null
send_again 10205
sleep 3
if [ -d "/proc/$pid" ]; then ok clock-jump; else fail clock-jump "the daemon ended"; fi
hand_over clock-jump

# A slip in the configuration is named by its line while the watch goes on, and so is its mending.
cp "$DATA/config.toml" /tmp/config.toml
echo 'loopback = perhaps' >>"$DATA/config.toml"
if await 20 logged "config.toml, line $(wc -l <"$DATA/config.toml")"; then ok config-mistake; else fail config-mistake "no line names it"; fi
cat /tmp/config.toml >"$DATA/config.toml"
echo '# mended' >>"$DATA/config.toml"
if await 20 logged "the configuration has changed"; then ok config-reload; else fail config-reload "no line says that it was taken on"; fi
if [ -d "/proc/$pid" ]; then ok config-lives; else fail config-lives "the daemon ended"; fi
hand_over config

# Crashes: two are survived, the third within ten minutes keeps it off.
sed -i 's/^PAUSES=.*/PAUSES="1 1"/' /data/adb/modules/telltale/service.sh
kill "$(cat "$DATA/supervisor.pid")"
await 10 test ! -d "/proc/$pid" || fail stop "the daemon outlived its supervisor"
if [ -s /sys/kernel/tracing/uprobe_events ]; then fail stop-clean "left in uprobe_events: $(head -n 1 /sys/kernel/tracing/uprobe_events)"; else ok stop-clean; fi
# A configuration that cannot be written, and that is no text at all: the defaults hold.
printf '\377\376' >"$DATA/config.toml"
mount --bind "$DATA/config.toml" "$DATA/config.toml"
mount -o remount,ro,bind "$DATA/config.toml"
boot
if await 60 hooked; then ok read-only-config; else fail read-only-config "nothing is hooked: $(cat "$DATA/last-words")"; fi
if logged "the defaults hold"; then ok config-no-text; else fail config-no-text "no line says so"; fi
umount "$DATA/config.toml"
cat /tmp/config.toml >"$DATA/config.toml"
first=$(daemon_pid)
send_again 10207 &
kill -KILL "$first"
# Killed in the middle of its work: what it kept is whole.
if said=$(telltale verify "$DATA/evidence" 2>&1); then ok evidence-after-sigkill; else fail evidence-after-sigkill "$said"; fi
if await 30 daemon_lives "$first"; then ok after-sigkill; else fail after-sigkill "it was not started again"; fi
await 60 hooked
send_again 10206
sleep 5
if [ -s "$LOG" ]; then ok sees-after-sigkill; else fail sees-after-sigkill "no line after the restart"; fi
second=$(daemon_pid)
segfault "$second"
if await 30 daemon_lives "$second"; then ok after-sigsegv; else fail after-sigsegv "it was not started again"; fi
sleep 1
segfault "$(daemon_pid)"
if await 30 test -f "$DATA/hooks-off"; then ok three-crashes; else fail three-crashes "the supervisor goes on"; fi
hand_over crashes
said=$(sh /data/adb/modules/telltale/action.sh)
if await 30 daemon_lives "" && echo "$said" | grep -q 'killed by signal 11'; then ok action; else fail action "$said"; fi

# A newer version over the older one: configuration and evidence stay.
echo '# mine' >>"$DATA/config.toml"
mkdir -p "$DATA/evidence"
echo '{}' >"$DATA/evidence/kept.jsonl"
/manager.sh install "$ZIP" >/dev/null || fail update "the manager refused"
kill "$(cat "$DATA/supervisor.pid")" 2>/dev/null
sleep 2
umount /system/bin/telltale
boot
if grep -q '^# mine$' "$DATA/config.toml" && [ -f "$DATA/evidence/kept.jsonl" ] && daemon_lives ""; then ok update; else fail update "something was lost"; fi

/manager.sh remove telltale
umount /system/bin/telltale
/manager.sh boot
sleep 1
rm -f /system/bin/telltale
left=$(find /data/adb -mindepth 1 ! -path /data/adb/modules ! -path /data/adb/ksu ! -path /data/adb/ksu/bin)
if [ -z "$left" ]; then ok removed; else fail removed "left: $(echo "$left" | tr '\n' ' ')"; fi
if [ -s /sys/kernel/tracing/uprobe_events ]; then fail removed-hooks "left in uprobe_events"; else ok removed-hooks; fi
processes=$(for exe in /proc/[0-9]*/exe; do readlink "$exe"; done | grep -c bin/telltale)
if [ "$processes" -gt 0 ]; then fail removed-process "$processes left"; else ok removed-process; fi
hand_over removal
