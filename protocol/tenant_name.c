/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tenant_name.h"

#include <string.h>

static bool unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c && strchr("._@:-", c));
}

static int hex_value(char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Only the one spelling that tenant_name_encode() writes is valid, or one tenant had two names. */
static bool encoded_byte(const char *s)
{
	int high, low;

	if (s[0] != '%')
		return false;
	high = hex_value(s[1]);
	low = high < 0 ? -1 : hex_value(s[2]);
	return low >= 0 && !unreserved((unsigned char)(high * 16 + low));
}

bool tenant_name_valid(const char *name)
{
	size_t len = 0;

	if (!name || !*name)
		return false;
	while (name[len]) {
		if (unreserved((unsigned char)name[len]))
			len++;
		else if (encoded_byte(name + len))
			len += 3;
		else
			return false;
		if (len > TENANT_NAME_MAX)
			return false;
	}
	return true;
}

bool tenant_name_encode(const char *identity, size_t len, char out[TENANT_NAME_MAX + 1])
{
	static const char digits[] = "0123456789ABCDEF";
	char name[TENANT_NAME_MAX + 1];
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)identity[i];
		size_t need = unreserved(c) ? 1 : 3;

		if (used + need > TENANT_NAME_MAX)
			return false;
		if (need == 1) {
			name[used++] = (char)c;
			continue;
		}
		name[used++] = '%';
		name[used++] = digits[c >> 4];
		name[used++] = digits[c & 15];
	}
	if (!used)
		return false;
	name[used] = '\0';
	memcpy(out, name, used + 1);
	return true;
}
