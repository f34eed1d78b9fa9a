/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an authentication round proves, and what it does not: tenant_tag_facts.c. */
#include <library.h>

#include <credentials/certificates/certificate.h>
#include <eap/eap.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tenant_tag_facts.h"

static identification_t *id(const char *text)
{
	return identification_create_from_string((char *)text);
}

static auth_cfg_t *eap_round(const char *ike_id, const char *eap_id, eap_type_t type)
{
	auth_cfg_t *round = auth_cfg_create();

	/* in the order charon adds them */
	round->add(round, AUTH_RULE_IDENTITY, id(ike_id));
	if (eap_id)
		round->add(round, AUTH_RULE_EAP_IDENTITY, id(eap_id));
	round->add(round, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_EAP);
	round->add(round, AUTH_RULE_EAP_TYPE, type);
	return round;
}

/* Expect exactly one identity from a source, or none for NULL. */
static void expect(tenant_tag_facts_t *facts, tenant_tag_source_t source, const char *text)
{
	enumerator_t *enumerator = facts->create_enumerator(facts, source);
	identification_t *found;
	char buf[256];

	if (text) {
		assert_true(enumerator->enumerate(enumerator, &found));
		snprintf(buf, sizeof(buf), "%Y", found);
		assert_string_equal(buf, text);
	}
	assert_false(enumerator->enumerate(enumerator, &found));
	enumerator->destroy(enumerator);
}

static tenant_tag_facts_t *prove(auth_cfg_t *round, bool local)
{
	tenant_tag_facts_t *facts = tenant_tag_facts_create("conn");

	facts->add_round(facts, round, local);
	round->destroy(round);
	assert_int_equal(facts->get_rounds(facts), 1);
	return facts;
}

static void expect_eap(auth_cfg_t *round, bool local, const char *eap)
{
	tenant_tag_facts_t *facts = prove(round, local);

	expect(facts, TENANT_TAG_EAP, eap);
	/* IDi is never proven by EAP */
	expect(facts, TENANT_TAG_ID, NULL);
	expect(facts, TENANT_TAG_CERT, NULL);
	facts->destroy(facts);
}

static void test_eap_identity(void **state)
{
	expect_eap(eap_round("acme", "globex", EAP_MSCHAPV2), TRUE, "globex");
	expect_eap(eap_round("acme", "globex", EAP_MSCHAPV2), FALSE, "globex");
	expect_eap(eap_round("acme", "globex", EAP_MD5), TRUE, "globex");
	expect_eap(eap_round("acme", "globex", EAP_GTC), FALSE, "globex");
	expect_eap(eap_round("acme", "globex", EAP_TLS), TRUE, "globex");
}

static void test_eap_claims_only(void **state)
{
	expect_eap(eap_round("acme", "globex", EAP_TLS), FALSE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_TTLS), TRUE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_PEAP), TRUE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_AKA), TRUE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_SIM), TRUE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_RADIUS), FALSE, NULL);
	expect_eap(eap_round("acme", "globex", EAP_IDENTITY), TRUE, NULL);
	expect_eap(eap_round("acme", "%any", EAP_MD5), TRUE, NULL);
}

static void test_eap_vendor_method(void **state)
{
	auth_cfg_t *round = eap_round("acme", "globex", EAP_MD5);

	round->add(round, AUTH_RULE_EAP_VENDOR, 4711);
	expect_eap(round, TRUE, NULL);
}

static void test_eap_without_identity(void **state)
{
	expect_eap(eap_round("acme", NULL, EAP_MD5), TRUE, "acme");
	expect_eap(eap_round("acme", NULL, EAP_MD5), FALSE, NULL);
	expect_eap(eap_round("acme", NULL, EAP_TTLS), TRUE, NULL);
}

/* The user name MSCHAPv2 authenticated replaces the EAP-Identity, as charon merges it. */
static void test_method_identity_wins(void **state)
{
	auth_cfg_t *round = eap_round("acme", "acme", EAP_MSCHAPV2), *method = auth_cfg_create();

	method->add(method, AUTH_RULE_EAP_IDENTITY, id("globex"));
	round->merge(round, method, FALSE);
	method->destroy(method);
	expect_eap(round, TRUE, "globex");
}

static auth_cfg_t *xauth_round(const char *user)
{
	auth_cfg_t *round = auth_cfg_create();

	round->add(round, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_XAUTH);
	round->add(round, AUTH_RULE_XAUTH_IDENTITY, id(user));
	return round;
}

static void test_xauth(void **state)
{
	expect_eap(xauth_round("globex"), TRUE, "globex");
	/* what xauth-noauth leaves */
	expect_eap(xauth_round("%any"), TRUE, NULL);
}

static void test_psk(void **state)
{
	auth_cfg_t *round = auth_cfg_create();
	tenant_tag_facts_t *facts;

	round->add(round, AUTH_RULE_IDENTITY, id("acme"));
	round->add(round, AUTH_RULE_EAP_IDENTITY, id("globex"));
	round->add(round, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_PSK);
	facts = prove(round, TRUE);
	expect(facts, TENANT_TAG_ID, "acme");
	expect(facts, TENANT_TAG_EAP, NULL);
	facts->destroy(facts);
}

static void test_class_is_required(void **state)
{
	auth_cfg_t *round = auth_cfg_create();
	tenant_tag_facts_t *facts;

	round->add(round, AUTH_RULE_IDENTITY, id("acme"));
	facts = prove(round, TRUE);
	expect(facts, TENANT_TAG_ID, NULL);
	facts->destroy(facts);
}

/* A certificate that only knows type and subject. */
struct fake_cert {
	certificate_t public;
	certificate_type_t type;
	identification_t *subject;
};

static certificate_type_t fake_type(certificate_t *cert)
{
	return ((struct fake_cert *)cert)->type;
}

static identification_t *fake_subject(certificate_t *cert)
{
	return ((struct fake_cert *)cert)->subject;
}

static certificate_t *fake_ref(certificate_t *cert)
{
	return cert;
}

static void fake_destroy(certificate_t *cert)
{
}

static struct fake_cert fake_cert(certificate_type_t type, const char *subject)
{
	return (struct fake_cert){
		.public = {
			.get_type = fake_type,
			.get_subject = fake_subject,
			.get_ref = fake_ref,
			.destroy = fake_destroy,
		},
		.type = type,
		.subject = id(subject),
	};
}

static void expect_cert(certificate_type_t type, const char *expected)
{
	struct fake_cert cert = fake_cert(type, "C=CH, O=Acme Corp, CN=x");
	auth_cfg_t *round = auth_cfg_create();
	tenant_tag_facts_t *facts;

	round->add(round, AUTH_RULE_IDENTITY, id("x.acme.example"));
	round->add(round, AUTH_RULE_SUBJECT_CERT, &cert.public);
	round->add(round, AUTH_RULE_AUTH_CLASS, AUTH_CLASS_PUBKEY);
	facts = prove(round, TRUE);
	expect(facts, TENANT_TAG_CERT, expected);
	expect(facts, TENANT_TAG_ID, "x.acme.example");
	facts->destroy(facts);
	cert.subject->destroy(cert.subject);
}

static void test_certificate(void **state)
{
	expect_cert(CERT_X509, "C=CH, O=Acme Corp, CN=x");
	expect_cert(CERT_TRUSTED_PUBKEY, NULL);
}

static int count_groups(tenant_tag_facts_t *facts)
{
	enumerator_t *enumerator = facts->create_enumerator(facts, TENANT_TAG_GROUP);
	identification_t *group;
	int count = 0;

	while (enumerator->enumerate(enumerator, &group))
		count++;
	enumerator->destroy(enumerator);
	return count;
}

static void test_groups_of_all_rounds(void **state)
{
	auth_cfg_t *first = xauth_round("u"), *second = eap_round("a", "b", EAP_TTLS);
	tenant_tag_facts_t *facts = tenant_tag_facts_create(NULL);

	first->add(first, AUTH_RULE_GROUP, id("g1"));
	second->add(second, AUTH_RULE_GROUP, id("g1"));
	second->add(second, AUTH_RULE_GROUP, id("g2"));
	facts->add_round(facts, first, TRUE);
	facts->add_round(facts, second, TRUE);
	assert_int_equal(facts->get_rounds(facts), 2);
	assert_null(facts->get_connection(facts));
	assert_int_equal(count_groups(facts), 2);
	facts->destroy(facts);
	first->destroy(first);
	second->destroy(second);
}

static void test_many_groups(void **state)
{
	tenant_tag_facts_t *facts = tenant_tag_facts_create(NULL);
	char name[16];
	identification_t *group;

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "g%d", i / 2);
		group = id(name);
		facts->add(facts, TENANT_TAG_GROUP, group);
		group->destroy(group);
		assert_int_equal(count_groups(facts), i / 2 < 64 ? i / 2 + 1 : 64);
	}
	facts->destroy(facts);
}

static void test_references(void **state)
{
	tenant_tag_facts_t *facts = tenant_tag_facts_create("conn");

	assert_ptr_equal(facts->get_ref(facts), facts);
	facts->destroy(facts);
	assert_string_equal(facts->get_connection(facts), "conn");
	facts->destroy(facts);
}

/* How a result differs from the one of the configuration before. */
static void test_compare(void **state)
{
	static const struct {
		char *name, *identity;
		tenant_tag_source_t source;
		bool changed;
		char *before; /* of acme, by the EAP identity bob */
	} cases[] = {
		{ "acme", "bob", TENANT_TAG_EAP, FALSE, NULL },
		{ "globex", "bob", TENANT_TAG_EAP, TRUE, "acme" },
		{ NULL, "bob", TENANT_TAG_EAP, TRUE, "acme" },
		{ "acme", "bob@acme.example", TENANT_TAG_EAP, TRUE, NULL },
		{ "acme", "bob", TENANT_TAG_ID, TRUE, NULL },
		{ "acme", NULL, TENANT_TAG_EAP, TRUE, NULL },
	};
	tenant_tag_tenant_t acme = { .name = "acme", .identity = "bob", .source = TENANT_TAG_EAP };
	tenant_tag_tenant_t nobody = { .identity = "bob", .source = TENANT_TAG_EAP };
	tenant_tag_tenant_t again = acme;
	int i;

	for (i = 0; i < countof(cases); i++)
	{
		tenant_tag_tenant_t now = { .name = cases[i].name, .identity = cases[i].identity,
					    .source = cases[i].source };

		tenant_tag_tenant_compare(&now, &acme);
		assert_int_equal(now.changed, cases[i].changed);
		assert_true(streq(now.before ?: "", cases[i].before ?: ""));
		free(now.before);
	}
	/* nothing to take from anybody */
	tenant_tag_tenant_compare(&again, &nobody);
	assert_true(again.changed);
	assert_null(again.before);
	again.changed = FALSE;
	tenant_tag_tenant_compare(&again, NULL);
	assert_false(again.changed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_eap_identity),
		cmocka_unit_test(test_eap_claims_only),
		cmocka_unit_test(test_eap_vendor_method),
		cmocka_unit_test(test_eap_without_identity),
		cmocka_unit_test(test_method_identity_wins),
		cmocka_unit_test(test_xauth),
		cmocka_unit_test(test_psk),
		cmocka_unit_test(test_class_is_required),
		cmocka_unit_test(test_certificate),
		cmocka_unit_test(test_groups_of_all_rounds),
		cmocka_unit_test(test_many_groups),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_compare),
	};
	int failed;

	if (!library_init("", "test"))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	library_deinit();
	return failed;
}
