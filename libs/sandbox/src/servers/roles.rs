//! A database of its own for each service, with an owner for migrations and a runtime role.

use anyhow::{Context as _, anyhow, bail};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

/// One session at a time prepares databases; the number means nothing.
const LOCK: &str = "select pg_advisory_lock(7016996765293437281)";

/// A database and the two roles that may use it.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Name of the database.
    pub database: &'a str,
    /// Role that owns the database and runs migrations.
    pub owner: &'a str,
    /// Password of `owner`.
    pub owner_password: &'a str,
    /// Role the service runs as; migrations grant it what it needs.
    pub runtime: &'a str,
    /// Password of `runtime`.
    pub runtime_password: &'a str,
}

/// Where the two roles connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// As the owner, for migrations.
    pub owner: String,
    /// As the runtime role.
    pub runtime: String,
}

/// Makes database and roles if they are not there, sets the passwords, and lets nobody else in.
///
/// Repeating it is harmless, also from several processes at once. `admin_url` needs a role that
/// may create roles and databases.
///
/// # Errors
/// A name that is not `[a-z][a-z0-9_]*`, a password with other than letters, digits, `-` and `_`,
/// or a server that refuses.
pub async fn ensure_role_and_database(
    admin_url: &str,
    wanted: &Wanted<'_>,
) -> anyhow::Result<Urls> {
    let Wanted { database, owner, owner_password, runtime, runtime_password } = *wanted;
    for name in [database, owner, runtime] {
        check_name(name)?;
    }
    let mut base = url::Url::parse(admin_url).context("the admin URL cannot be read")?;
    let admin: PgConnectOptions = admin_url.parse().context("the admin URL cannot be read")?;
    let admin = admin.disable_statement_logging();
    let mut conn =
        PgConnection::connect_with(&admin).await.context("failed to connect as administrator")?;
    run(&mut conn, LOCK.to_owned()).await?;
    for (role, password) in [(owner, owner_password), (runtime, runtime_password)] {
        ensure_role(&mut conn, role, password).await?;
    }
    if !exists(&mut conn, format!("from pg_database where datname = '{database}'")).await? {
        run(&mut conn, format!("create database {database} owner {owner}")).await?;
    }
    for grant in [
        format!("alter database {database} owner to {owner}"),
        format!("revoke all on database {database} from public"),
        format!("grant connect on database {database} to {owner}, {runtime}"),
    ] {
        run(&mut conn, grant).await?;
    }
    conn.close().await.context("failed to finish preparing databases")?;
    base.set_path(database);
    let url = |role: &str, password: &str| {
        let mut url = base.clone();
        let named = url.set_username(role).and_then(|()| url.set_password(Some(password)));
        named.map(|()| url.to_string()).map_err(|()| anyhow!("the admin URL names no server"))
    };
    Ok(Urls { owner: url(owner, owner_password)?, runtime: url(runtime, runtime_password)? })
}

/// Names and passwords stand in statements as they are, so they hold nothing that needs quoting.
fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || !name.chars().all(plain) || name.len() > 63 {
        bail!("`{name}` is no plain name for a role or database");
    }
    Ok(())
}

async fn ensure_role(conn: &mut PgConnection, role: &str, password: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if password.is_empty() || !password.chars().all(plain) {
        bail!("the password of role {role} has other than letters, digits, `-` and `_`");
    }
    if !exists(conn, format!("from pg_roles where rolname = '{role}'")).await? {
        run(conn, format!("create role {role}")).await?;
        // A creator that is no superuser must belong to a role to give databases to it.
        run(conn, format!("grant {role} to current_user")).await?;
    }
    run(conn, format!("alter role {role} login password '{password}'")).await
}

async fn exists(conn: &mut PgConnection, from: String) -> anyhow::Result<bool> {
    let sql = AssertSqlSafe(format!("select exists (select {from}) as it_is"));
    let row = sqlx::Executor::fetch_one(conn, sqlx::raw_sql(sql)).await;
    let row = row.context("failed to look into the catalogue")?;
    row.try_get::<bool, _>("it_is").context("failed to read the catalogue")
}

async fn run(conn: &mut PgConnection, sql: String) -> anyhow::Result<()> {
    // The statement is not shown: it may hold a password.
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .context("failed to prepare a database")?;
    Ok(())
}
