//! PostgreSQL behind TLS.

use harness::{Postgres, PostgresVersion, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::db_init;
use crate::crew::{Crew, PASSWORD};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A crew with the CA's certificate in `ca.pem`, and a server with a certificate of that CA for `name`, who takes
/// nobody over TCP without TLS.
fn stack(name: impl FnOnce(&Postgres) -> String) -> (Crew, Postgres) {
    let (crew, authority) = (Crew::applied(), authority());
    crew.write("ca.pem", &authority.pem());
    crew.write("other-ca.pem", &self::authority().pem());
    let mut postgres = Postgres::start(PostgresVersion::V15);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name(&postgres)]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let rules = "local all all scram-sha-256\nhostssl all all all scram-sha-256\n";
    std::fs::write(postgres.dir().join("data/pg_hba.conf"), rules).unwrap();
    postgres.use_tls(&certificate.pem(), &key.serialize_pem());
    (crew, postgres)
}

fn its_address(postgres: &Postgres) -> String {
    postgres.address().ip().to_string()
}

#[test]
fn a_certificate_of_the_ca_for_the_host_is_taken_and_the_login_bound_to_it() {
    let (crew, postgres) = stack(its_address);
    // Nobody is let in without TLS, so a database that is there was made with it.
    let verified = ["--db-cacert", "ca.pem", "--db-channel-binding", "require"];
    run(db_init(&crew, &postgres).args(verified)).success();
    let second = run(db_init(&crew, &postgres).args(verified)).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);
    for mode in ["verify-ca", "require", "prefer"] {
        let mut command = db_init(&crew, &postgres);
        command.env("PGSSLMODE", mode);
        if mode != "prefer" {
            command.env("PGSSLROOTCERT", "ca.pem");
        }
        run(&mut command).success();
    }
    let plain = run(db_init(&crew, &postgres).args(["--db-sslmode", "disable"])).expect_code(77);
    assert!(
        plain.stderr.contains("no pg_hba.conf entry") || plain.stderr.contains("28000"),
        "{}",
        plain.stderr
    );
    postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_alone() {
    let (crew, postgres) = stack(|_| "another.example".to_owned());
    let refused =
        run(db_init(&crew, &postgres).args(["--db-cacert", "ca.pem", "--wait", "1h"])).expect_code(78);
    assert!(refused.stderr.contains("not valid for name"), "{}", refused.stderr);
    assert!(refused.stderr.contains("check --db-sslmode, --db-cacert"), "{}", refused.stderr);
    run(db_init(&crew, &postgres).args(["--db-cacert", "ca.pem", "--db-sslmode", "verify-ca"])).success();
}

#[test]
fn a_certificate_of_another_ca_is_refused_at_once_where_it_is_looked_at() {
    let (crew, postgres) = stack(its_address);
    for mode in ["verify-full", "verify-ca", "require"] {
        let mut command = db_init(&crew, &postgres);
        command.args(["--db-cacert", "other-ca.pem", "--db-sslmode", mode, "--wait", "1h"]);
        let refused = run(&mut command).expect_code(78);
        assert!(refused.stderr.contains("invalid peer certificate"), "{}", refused.stderr);
    }
    run(db_init(&crew, &postgres).args(["--db-sslmode", "require"])).success();
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V15);
    let without =
        run(db_init(&crew, &postgres).args(["--db-sslmode", "require", "--wait", "1h"])).expect_code(78);
    assert!(without.stderr.contains("server does not support TLS"), "{}", without.stderr);
    let unbound = run(db_init(&crew, &postgres).args(["--db-channel-binding", "require", "--wait", "1h"]));
    let unbound = unbound.expect_code(78);
    assert!(unbound.stderr.contains("channel binding"), "{}", unbound.stderr);
    run(&mut db_init(&crew, &postgres)).success();
}

#[test]
fn what_would_not_be_looked_at_or_is_no_certificate_is_78() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V15);
    crew.write("ca.pem", &authority().pem());
    crew.write("empty.pem", "");
    crew.write("garbled.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let refused = |args: [&str; 4], why: &str| {
        let outcome = run(db_init(&crew, &postgres).args(args)).expect_code(78);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    };
    refused(["--db-cacert", "ca.pem", "--db-sslmode", "prefer"], "would not look at it");
    refused(["--db-cacert", "empty.pem", "--db-sslmode", "verify-full"], "no CERTIFICATE section");
    refused(["--db-cacert", "garbled.pem", "--db-sslmode", "verify-full"], "garbled.pem");
    refused(["--db-cacert", "missing.pem", "--db-sslmode", "verify-full"], "missing.pem");
}
