/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which tenant follows from what a peer proved: charon-plugin/tenant_tag_identity.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <library.h>

#include <collections/linked_list.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tenant_tag_identity.h"

#define TENANTS                                                                                    \
	"tenants {\n"                                                                              \
	"  acme { match = *@acme.example, \"C=CH, O=Acme Corp, CN=*\"\n }\n"                       \
	"  boss { match = boss@acme.example\n }\n"                                                 \
	"  globex { match = 'C=CH, O=Globex, CN=*', 'C=DE, O=Globex, CN=*', keyid:glx\n }\n"       \
	"  twin1 { match = *.twin.example\n }\n"                                                   \
	"  twin2 { match = *.twin.example\n }\n"                                                   \
	"  all { match = %any, *\n }\n"                                                            \
	"  bad/name { match = bad\n }\n"                                                           \
	"  gold { match = class-gold\n }\n"                                                        \
	"}\n"

static tenant_tag_identity_t *configure(const char *options)
{
	char *text = NULL;

	assert_true(asprintf(&text, "test { plugins { tenant-tag {\n%s\n} } }", options) > 0);
	assert_true(lib->settings->load_string(lib->settings, text, FALSE));
	free(text);
	return tenant_tag_identity_create();
}

/* A fact is "source:identity"; "round" counts a round without any. */
static tenant_tag_facts_t *prove(const char *const *facts, char *connection)
{
	tenant_tag_facts_t *collected = tenant_tag_facts_create(connection);
	auth_cfg_t *round = auth_cfg_create();

	if (facts)
		collected->add_round(collected, round, TRUE);
	round->destroy(round);
	for (; facts && *facts; facts++) {
		const char *text = strchr(*facts, ':') + 1;
		tenant_tag_source_t source = TENANT_TAG_EAP;
		identification_t *id;

		while (strncmp(*facts, tenant_tag_source_name(source), text - 1 - *facts) != 0)
			source++;
		id = identification_create_from_string((char *)text);
		collected->add(collected, source, id);
		id->destroy(id);
	}
	return collected;
}

/* Expect a tenant, or with '!' first: none, for a reason that contains the rest. */
static void expect(const char *options, const char *const *facts, char *connection,
		   const char *source, const char *tenant)
{
	tenant_tag_identity_t *identity = configure(options);
	tenant_tag_facts_t *collected = prove(facts, connection);
	tenant_tag_tenant_t *result = identity->resolve(identity, collected);

	if (tenant[0] == '!') {
		assert_null(result->name);
		assert_non_null(result->reason);
		if (!strstr(result->reason, tenant + 1))
			fail_msg("\"%s\" lacks \"%s\"", result->reason, tenant + 1);
	} else {
		if (!result->name)
			fail_msg("no tenant: %s", result->reason);
		assert_string_equal(result->name, tenant);
		assert_null(result->reason);
	}
	assert_string_equal(tenant_tag_source_name(result->source), source);
	assert_int_equal(result->generation, identity->get_generation(identity));
	tenant_tag_tenant_destroy(result);
	collected->destroy(collected);
	identity->destroy(identity);
}

#define FACTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_order(void **state)
{
	const char *const all[] = { "eap:e", "cert:CN=c", "id:i", "group:g", NULL };

	expect("", all, "conn", "eap", "e");
	expect("identity = cert, eap", all, "conn", "cert", "CN%3Dc");
	expect("identity = id", all, "conn", "id", "i");
	expect("identity = nonsense, group, eap", all, "conn", "group", "g");
	expect("identity = connection, eap", all, "conn", "connection", "conn");
	expect("", FACTS("id:i"), "conn", "id", "i");
	expect("identity = cert, group", FACTS("id:i"), "conn", "none", "!proved no identity");
	expect("identity = ,", all, "conn", "none", "!proved no identity");
}

static void test_first_source_decides(void **state)
{
	/* an ambiguous or unusable identity is not repaired by a later source */
	expect("", FACTS("eap:a", "eap:b", "id:i"), "conn", "eap", "!both tenant a and tenant b");
	expect("", FACTS("eap:*@x.example", "id:i"), "conn", "eap", "!wildcards");
	expect(TENANTS, FACTS("id:host.twin.example"), "acme-conn", "id", "!both");
}

static void test_no_authentication_on_record(void **state)
{
	expect("", NULL, "conn", "none", "!no authentication");
	expect("identity = connection", NULL, "conn", "connection", "conn");
	expect("", (const char *const[]){ NULL }, "conn", "connection", "conn");
	expect("", (const char *const[]){ NULL }, NULL, "none", "!proved no identity");
}

static void test_map(void **state)
{
	expect(TENANTS, FACTS("eap:bob@acme.example"), NULL, "eap", "acme");
	expect(TENANTS, FACTS("id:BOB@ACME.example"), NULL, "id", "acme");
	expect(TENANTS, FACTS("cert:C=CH, O=Acme Corp, CN=branch 7"), NULL, "cert", "acme");
	expect(TENANTS, FACTS("cert:C=DE, O=Globex, CN=x"), NULL, "cert", "globex");
	expect(TENANTS, FACTS("id:keyid:glx"), NULL, "id", "globex");
	expect(TENANTS, FACTS("group:class-gold"), NULL, "group", "gold");
	/* the closest match counts */
	expect(TENANTS, FACTS("eap:boss@acme.example"), NULL, "eap", "boss");
	/* a pattern is of a type: this is no DN, but a user who calls himself so */
	expect(TENANTS, FACTS("id:keyid:C=CH, O=Acme Corp, CN=x"), NULL, "id",
	       "C%3DCH%2C%20O%3DAcme%20Corp%2C%20CN%3Dx");
	expect(TENANTS, FACTS("eap:eve@notacme.example"), NULL, "eap", "eve@notacme.example");
}

static void test_map_ambiguous(void **state)
{
	expect(TENANTS, FACTS("id:a.twin.example"), NULL, "id",
	       "!both tenant twin1 and tenant twin2");
}

static void test_pattern_for_everybody_is_ignored(void **state)
{
	expect(TENANTS, FACTS("eap:somebody"), NULL, "eap", "somebody");
	/* and yet nobody else can be called like that tenant */
	expect(TENANTS, FACTS("eap:all"), NULL, "eap", "!configured tenant all");
}

static void test_invalid_tenant_is_ignored(void **state)
{
	expect(TENANTS, FACTS("eap:bad"), NULL, "eap", "bad");
}

static void test_name_of_a_tenant(void **state)
{
	expect(TENANTS, FACTS("eap:acme"), NULL, "eap", "!configured tenant acme");
	expect(TENANTS, FACTS("eap:AcMe"), NULL, "eap", "!configured tenant AcMe");
	expect(TENANTS, FACTS("id:keyid:globex"), NULL, "id", "!configured tenant globex");
	expect(TENANTS, (const char *const[]){ NULL }, "acme", "connection", "!configured");
}

static void test_wildcards(void **state)
{
	expect(TENANTS, FACTS("eap:*@acme.example"), NULL, "eap", "!wildcards");
	expect(TENANTS, FACTS("id:%any"), NULL, "id", "!wildcards");
	expect(TENANTS, FACTS("id:C=CH, O=Acme Corp, CN=*"), NULL, "id", "!wildcards");
	expect(TENANTS, FACTS("group:*"), NULL, "group", "!wildcards");
}

static void test_names(void **state)
{
	char longest[129], longer[130];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	expect("identity = connection", NULL, longest, "connection", longest);
	expect("identity = connection", NULL, longer, "connection", "!more than 128");
	expect("", FACTS("id:192.0.2.7"), NULL, "id", "192.0.2.7");
	expect("", FACTS("id:2001:db8::7"), NULL, "id", "2001:db8::7");
	expect("", FACTS("eap:a b%c/d"), NULL, "eap", "a%20b%25c%2Fd");
}

/* Two identities that print alike must not get one name. */
static void test_unprintable_key_ids_differ(void **state)
{
	expect("", FACTS("id:@#6101"), NULL, "id", "a%01");
	expect("", FACTS("id:@#6102"), NULL, "id", "a%02");
	expect("", FACTS("id:@#613f"), NULL, "id", "a%3F");
}

static void test_ambiguous_dn_has_no_name(void **state)
{
	/* one RDN, CN="x, O=Acme Corp", and two RDNs: the same text */
	static u_char one[] = { 0x30, 0x19, 0x31, 0x17, 0x30, 0x15, 0x06, 0x03, 0x55,
				0x04, 0x03, 0x0c, 0x0e, 'x',  ',',  ' ',  'O',  '=',
				'A',  'c',  'm',  'e',  ' ',  'C',  'o',  'r',  'p' };
	tenant_tag_identity_t *identity = configure("");
	tenant_tag_facts_t *facts = prove(FACTS("eap:x"), NULL);
	identification_t *id;
	tenant_tag_tenant_t *result;

	facts->destroy(facts);
	facts = prove((const char *const[]){ NULL }, NULL);
	id = identification_create_from_encoding(ID_DER_ASN1_DN, chunk_from_thing(one));
	facts->add(facts, TENANT_TAG_CERT, id);
	result = identity->resolve(identity, facts);
	assert_string_equal(result->identity, "CN=x, O=Acme Corp");
	assert_null(result->name);
	assert_non_null(strstr(result->reason, "unambiguous"));
	tenant_tag_tenant_destroy(result);
	id->destroy(id);
	facts->destroy(facts);
	identity->destroy(identity);
	expect("", FACTS("cert:CN=x, O=Acme Corp"), NULL, "cert", "CN%3Dx%2C%20O%3DAcme%20Corp");
}

static void test_groups(void **state)
{
	expect(TENANTS, FACTS("group:g"), NULL, "group", "g");
	expect(TENANTS, FACTS("group:g", "group:class-gold", "group:h"), NULL, "group", "gold");
	expect(TENANTS, FACTS("group:g", "group:h"), NULL, "group", "!several groups");
	expect(TENANTS, FACTS("group:class-gold", "group:x@acme.example"), NULL, "group", "!both");
	expect(TENANTS, FACTS("group:g", "group:a.twin.example"), NULL, "group", "!both");
}

static void test_several_identities_of_one_tenant(void **state)
{
	expect(TENANTS, FACTS("eap:bob@acme.example", "eap:eve@acme.example"), NULL, "eap", "acme");
	expect(TENANTS, FACTS("eap:bob@acme.example", "eap:acme"), NULL, "eap", "!configured");
}

static void check_split(const char *value, const char *const *parts)
{
	linked_list_t *list = tenant_tag_identity_split((char *)value);
	char *part;

	for (; *parts; parts++) {
		assert_int_equal(list->remove_first(list, (void **)&part), SUCCESS);
		assert_string_equal(part, *parts);
		free(part);
	}
	assert_int_equal(list->get_count(list), 0);
	list->destroy(list);
}

static void test_split(void **state)
{
	const char *const none[] = { NULL };

	check_split("", none);
	check_split(" , ,, ", none);
	check_split("a,b , c", FACTS("a", "b", "c"));
	/* what strongswan.conf makes of: *@a.example, "C=CH, O=A, CN=*" */
	check_split("*@a.example, C=CH, O=A, CN=*", FACTS("*@a.example", "C=CH, O=A, CN=*"));
	check_split("C=CH, O=A, x, CN=*", FACTS("C=CH, O=A", "x", "CN=*"));
	check_split("\"C=CH, O=A\", \"C=DE, O=A\"", FACTS("C=CH, O=A", "C=DE, O=A"));
	check_split("'C=CH, O=A', 'C=DE, O=A', y", FACTS("C=CH, O=A", "C=DE, O=A", "y"));
	check_split("'it has \"quotes\"'", FACTS("it has \"quotes\""));
	check_split("'unterminated, x", FACTS("unterminated, x"));
	check_split("2.5.4.3=x, C=CH", FACTS("2.5.4.3=x, C=CH"));
}

static void test_generations_differ(void **state)
{
	tenant_tag_identity_t *a = configure(""), *b = configure("");

	assert_int_not_equal(a->get_generation(a), b->get_generation(b));
	a->destroy(a);
	b->destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_first_source_decides),
		cmocka_unit_test(test_no_authentication_on_record),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_map_ambiguous),
		cmocka_unit_test(test_pattern_for_everybody_is_ignored),
		cmocka_unit_test(test_invalid_tenant_is_ignored),
		cmocka_unit_test(test_name_of_a_tenant),
		cmocka_unit_test(test_wildcards),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_unprintable_key_ids_differ),
		cmocka_unit_test(test_ambiguous_dn_has_no_name),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_several_identities_of_one_tenant),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_generations_differ),
	};
	int failed;

	if (!library_init("", "test"))
		return 1;
	dbg_default_set_level(-1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	library_deinit();
	return failed;
}
