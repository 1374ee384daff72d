# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="libgmem: its tests on this machine, under sanitizers and valgrind"

step_packages=(meson ninja-build pkg-config libnuma-dev check libsubunit-dev valgrind
	clang gcovr python3 mandoc abigail-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross cmake g++ bindgen)

step_exists()
{
	[[ -f $top/libgmem/meson.build ]]
}

targets=()

# A build of build/libgmem-NAME with those options of meson's, of the targets in the array
# targets or of all. Two steps use one of them.
build_libgmem()
{
	local dir=$build/libgmem-$1

	lock "libgmem-$1"
	shift

	if [[ -f $dir/build.ninja ]]; then
		meson configure "$dir" "$@"
	else
		rm -rf "$dir"
		meson setup "$dir" "$top" "$@"
	fi
	ninja -C "$dir" "${targets[@]}"
}

# meson_results NAME: what "meson test" found, one result for each test.
meson_results()
{
	local log=$1 verdict name any=''

	while IFS=$'\t' read -r verdict name detail; do
		any=1
		"$verdict" "$name" "$detail" "$log"
	done < <(python3 - "$2" <<-'END'
		import json, sys
		for line in open(sys.argv[1]):
		    t = json.loads(line)
		    verdict = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}.get(t["result"], "failed")
		    out = [l for l in t.get("stdout", "").splitlines() if l.strip()]
		    why = [l for l in out if ":F:" in l or ":E:" in l or "skipped" in l] or out[-1:]
		    detail = "%.0f s" % t["duration"] if verdict == "passed" else (why or [t["result"]])[0]
		    print("\t".join((verdict, t["name"].split(" / ")[-1], detail.replace("\t", " "))))
	END
	)
	[[ -n $any ]] || failed "meson test" "it ran no test" "$log"
}

# run_meson NAME OPTION...: all of "meson test" in build/libgmem-NAME.
run_meson()
{
	local name=$1 dir=$build/libgmem-$1 log=$test_log/libgmem-$1.log
	shift

	rm -f "$dir"/meson-logs/testlog*.json
	meson test -C "$dir" --no-rebuild "$@" >"$log" 2>&1 || :
	step=libgmem-$name meson_results "$log" "$(find "$dir/meson-logs" -name 'testlog*.json')"
}

libgmem_cc()
{
	local out=$1
	shift

	"${CC:-gcc}" -O2 -Wall -Werror -D_GNU_SOURCE -I"$top/libgmem/include" -isystem "$top/libgmem/uapi" \
		-isystem "$top/libgmem/uapi/x86" -o "$out" "$@"
}

build_fuzz()
{
	local targets=(libgmem/tests/gmem-fuzz examples/launcher/tests/launcher-boot-fuzz)

	CC=clang build_libgmem fuzz --werror -Dfuzz=true
}

step_run()
{
	local name

	check_build "it builds without a warning" build_libgmem plain --werror -Db_coverage=false
	[[ -x $build/libgmem-plain/libgmem/tests/gmem-tests ]] || return 0
	run_meson plain
	check_build "it builds with AddressSanitizer and UndefinedBehaviorSanitizer" \
		build_libgmem asan --werror -Db_sanitize=address,undefined -Db_lundef=false
	run_meson asan --suite fake --suite kvm
	[[ -z ${LAB_QUICK:-} ]] || return 0
	check_build "it builds with ThreadSanitizer" build_libgmem tsan --werror -Db_sanitize=thread -Db_lundef=false
	for name in inplace attributes dual shared plain; do
		check "threads, $name, ThreadSanitizer" env CK_FORK=no TSAN_OPTIONS=halt_on_error=1 \
			"$build/libgmem-tsan/libgmem/tests/gmem-tests" "fake-$name" threads
		check "valgrind, $name" env CK_FORK=no CK_DEFAULT_TIMEOUT=0 \
			valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
			"$build/libgmem-plain/libgmem/tests/gmem-tests" "fake-$name" unit behaviour bad-input exits
	done

	# What a guest, a caller or a file hands over is anything at all.
	check_build "it builds with libFuzzer" build_fuzz
	run_meson fuzz --suite fuzz
}
