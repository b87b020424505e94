#!/bin/busybox sh
# Android's getprop, for the properties a Redmi Note 8 with Android 9 would answer and Telltale asks for.
case $1 in
sys.boot_completed) echo 1 ;;
ro.build.version.sdk) echo 28 ;;
ro.build.version.release) echo 9 ;;
ro.product.model) echo "Redmi Note 8" ;;
ro.build.fingerprint) echo "xiaomi/ginkgo/ginkgo:9/PKQ1.190616.001/V11.0.5.0:user/release-keys" ;;
*) echo ;;
esac
