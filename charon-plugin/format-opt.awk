# SPDX-License-Identifier: GPL-2.0-or-later
#
# Turns a description of options (*.opt, the format of strongSwan's own) into
#   awk -v format=conf -f format-opt.awk FILE   a snippet for strongswan.d
#   awk -v format=man  -f format-opt.awk FILE   the options for a manual page
# Options have to be listed before the sections beside them, as the file is
# read once. POSIX awk only.

BEGIN {
	root = "charon.plugins."
	depth = 0
}

/^[ \t]*#/ {
	next
}

/^[^ \t]/ {
	finish()
	define($0)
	next
}

/^[ \t]*$/ {
	if (paragraphs && desc[paragraphs] != "")
		desc[++paragraphs] = ""
	next
}

{
	gsub(/^[ \t]+|[ \t]+$/, "")
	if (!paragraphs)
		paragraphs = 1
	desc[paragraphs] = desc[paragraphs] == "" ? $0 : desc[paragraphs] " " $0
}

END {
	finish()
	close_sections(0)
}

# Read the line that starts an option or section.
function define(line)
{
	name = line
	sub(/[ \t].*/, "", name)
	is_section = line ~ /[{][ \t]*#?[ \t]*[}][ \t]*$/
	commented = is_section ? line ~ /#/ : line !~ /:=/
	value = ""
	if (!is_section && line ~ /=/) {
		value = line
		sub(/^[^=]*=[ \t]*/, "", value)
		sub(/[ \t]+$/, "", value)
	}
	paragraphs = 0
	split("", desc)
	defined = 1
}

# Print what has been read since the last such line.
function finish()
{
	if (!defined)
		return
	defined = 0
	if (paragraphs && desc[paragraphs] == "")
		paragraphs--
	if (format == "man")
		print_man()
	else
		print_conf()
}

function indent(level,    text)
{
	text = ""
	while (level-- > 0)
		text = text "    "
	return text
}

# Close sections until only the given number is open.
function close_sections(level)
{
	if (format == "man")
		return
	while (depth > level) {
		printf "%s%s}\n", indent(depth - 1), hidden[depth] ? "# " : ""
		depth--
		if (depth > 0)
			print ""
	}
}

function open_section(section, comment)
{
	hidden[depth + 1] = comment || (depth && hidden[depth])
	printf "%s%s%s {\n\n", indent(depth), hidden[depth + 1] ? "# " : "", section
	opened[++depth] = section
}

# Have exactly the sections open that the path names.
function enter(path, count,    i)
{
	for (i = 1; i <= count && i <= depth && opened[i] == path[i]; i++)
		;
	close_sections(i - 1)
	for (; i <= count; i++)
		open_section(path[i], 0)
}

function print_conf(    short, path, count, comment)
{
	short = substr(name, length(root) + 1)
	count = split(short, path, ".")
	enter(path, count - 1)
	if (paragraphs)
		print_comment(tags(desc[1], "", "", ""))
	if (is_section) {
		open_section(path[count], commented)
		return
	}
	comment = commented || hidden[depth] ? "# " : ""
	printf "%s%s%s =%s\n\n", indent(depth), comment, path[count],
		value == "" ? "" : " " value
}

function print_comment(text,    words, count, i, line)
{
	count = split(text, words, " ")
	line = indent(depth) "#"
	for (i = 1; i <= count; i++) {
		if (length(line) + 1 + length(words[i]) > 80) {
			print line
			line = indent(depth) "#"
		}
		line = line " " words[i]
	}
	print line
}

function print_man(    i)
{
	print ".TP"
	if (is_section)
		printf ".B %s\n", roff(name)
	else
		printf ".BR %s \" [%s]\"\n", roff(name), roff(value)
	for (i = paragraphs > 1 ? 2 : 1; i <= paragraphs; i++) {
		if (i > 2)
			print ".IP"
		print "\\&" tags(roff(desc[i]), "\\fB", "\\fI", "\\fR")
	}
}

# Escape what roff would interpret.
function roff(text)
{
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	gsub(/"/, "\\(dq", text)
	gsub(/'/, "\\(aq", text)
	return text
}

# Replace **bold** and _italic_, which may span words.
function tags(text, bold, italic, end,    words, count, i, out)
{
	count = split(text, words, " ")
	out = ""
	for (i = 1; i <= count; i++) {
		if (words[i] ~ /^[(\[]?(\*\*|_)./)
			i = tag(words, count, i, bold, italic, end)
		out = out (out == "" ? "" : " ") words[i]
	}
	return out
}

# Replace the tag that starts with a word. The result is stored in the word with
# which it ends, whose index is returned.
function tag(words, count, i, bold, italic, end,    bracket, mark, body, j, rest)
{
	body = words[i]
	bracket = ""
	if (body ~ /^[(\[]/) {
		bracket = substr(body, 1, 1)
		body = substr(body, 2)
	}
	mark = body ~ /^_/ ? "_" : "**"
	body = substr(body, length(mark) + 1)
	for (j = i; j <= count; j++) {
		if (j > i)
			body = body " " words[j]
		rest = ""
		if (match(body, /([.,!:;)]|\]|\([0-9]+\))+$/)) {
			rest = substr(body, RSTART)
			body = substr(body, 1, RSTART - 1)
		}
		if (length(body) > length(mark) &&
		    substr(body, length(body) - length(mark) + 1) == mark) {
			body = substr(body, 1, length(body) - length(mark))
			words[j] = bracket (mark == "_" ? italic : bold) body end rest
			return j
		}
		body = body rest
	}
	return i
}
