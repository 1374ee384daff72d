# SPDX-License-Identifier: GPL-2.0-only
#
# awk -f kernels.awk kernels.txt README.md gmem.7: the tables there say what kernels answered,
# of no kernel that was not seen, and of each that was.

function trim(s)
{
	gsub(/^[ \t]+|[ \t]+$/, "", s)
	return s
}

function wrong(what)
{
	printf "%s:%d: %s\n", FILENAME, FNR, what
	bad = 1
}

# 6.12 as a number that can be compared.
function number(series,	part)
{
	split(series, part, ".")
	return part[1] * 1000 + part[2]
}

function has(series, vm, cap)
{
	return index(caps[series, vm], "," cap ",") > 0
}

function yes(is)
{
	return is ? "yes" : "no"
}

# What a row of README.md's table has to say of a kernel; "?" for an unknown row.
function answer(row, series)
{
	if (row == "private memory in ordinary VMs")
		return yes(has(series, "plain", "private"))
	if (row == "private memory in software-protected VMs")
		return !has(series, "sw-protected", "private") ? "no" : \
			auto[series, "sw-protected"] == "in-place" ? "in place" : auto[series, "sw-protected"]
	if (row == "conversion keeps contents, needs no second copy")
		return yes(has(series, "plain", "in-place"))
	if (row == "shared mode (no private memory)")
		return yes(has(series, "plain", "shared"))
	if (row == "shared memory of a memfd (plain mode)")
		return yes(has(series, "plain", "plain"))
	if (row == "NUMA policy of a guest_memfd")
		return places[series, "plain"] == "prealloc" ? "at allocation" : \
			yes(places[series, "plain"] == "policy")
	if (row == "the kernel tells what is private, and where it is")
		return yes(has(series, "plain", "ranges"))
	if (row == "memory that outlives its VM, and its clones")
		return yes(has(series, "plain", "link") && has(series, "plain", "clone"))
	return "?"
}

# The oldest of the stock kernels where something is so is the one that gmem(7) names.
function oldest(shared,	series, first)
{
	first = ""
	for (series in seen)
		if (series != "gmem" && (first == "" || number(series) < number(first)) &&
		    (shared ? has(series, "plain", "shared") : places[series, "plain"] == "policy"))
			first = series
	return first
}

# --- kernels.txt

FILENAME ~ /kernels\.txt$/ {
	if ($0 !~ /^#/ && NF) {
		if (NF != 5)
			wrong("not five columns: " $0)
		seen[$1] = 1
		auto[$1, $2] = $3
		places[$1, $2] = $4
		caps[$1, $2] = "," $5 ","
	}
	next
}

# --- README.md

/^\| \|.*gmem's 6\.12/ {
	columns = split($0, head, "|") - 1
	for (series in seen)
		found[series] = 0
	for (i = 3; i <= columns; i++) {
		head[i] = trim(head[i])
		n = split(head[i], end, " to ")
		from[i] = end[1]
		to[i] = end[n]
		# Of a kernel that nobody has, it says what was announced.
		if (head[i] ~ /as announced/) {
			from[i] = to[i] = ""
			for (series in seen)
				of[i, series] = 0
			announced++
			continue
		}
		if (head[i] == "gmem's 6.12") {
			from[i] = to[i] = "gmem"
		} else if (!(from[i] in seen) || !(to[i] in seen)) {
			wrong("a column of kernels that were not seen: " head[i])
		}
		for (series in seen) {
			of[i, series] = series == "gmem" || from[i] == "gmem" ? series == from[i] : \
				number(from[i]) <= number(series) && number(series) <= number(to[i])
			found[series] += of[i, series]
		}
	}
	for (series in seen)
		if (found[series] != 1)
			wrong(series " is in " found[series] " columns")
	in_table = 1
	tables++
	next
}

in_table && !/^\|/ { in_table = 0 }

in_table && !/^\|-/ {
	split($0, cell, "|")
	row = trim(cell[2])
	rows++
	for (i = 3; i <= columns; i++)
		for (series in seen)
			if (of[i, series] && trim(cell[i]) != answer(row, series))
				wrong(row ", " series ": '" trim(cell[i]) "', should be '" answer(row, series) "'")
}

# --- gmem(7)

/^\.It in place Ta / {
	modes++
	for (series in seen)
		if (has(series, "plain", "in-place") != (series == "gmem"))
			wrong("in place is not what gmem's kernel has alone: " series)
}

/^\.It dual Ta a protected VM Ta / {
	modes++
	for (series in seen)
		if (auto[series, "plain"] == "dual")
			wrong("dual takes no protected VM: " series)
}

/^\.It shared Ta / {
	modes++
	split($0, cell, " Ta ")
	if (cell[2] != "Linux " oldest(1) ", or gmem's")
		wrong("shared mode needs Linux " oldest(1) ", not " cell[2])
}

/^NUMA policies take Linux / {
	policies++
	if (index($0, "NUMA policies take Linux " oldest(0) ", or gmem's") != 1)
		wrong("policies take Linux " oldest(0))
}

# "Debian's are not" has to be so.
/CONFIG_KVM_SW_PROTECTED_VM/ && FILENAME ~ /gmem\.7$/ { named = 1 }

END {
	for (series in seen)
		if (series != "gmem" && auto[series, "sw-protected"] != "no-vm") {
			wrong(series " has software-protected VMs, and gmem(7) says that none of Debian's has")
		}
	if (tables != 1 || rows != 8 || announced != 1 || modes != 3 || !named || policies != 1)
		wrong("not all is there: " tables + 0 " table, " rows + 0 " of 8 rows, " modes + 0 " of 3 modes")
	exit bad
}
