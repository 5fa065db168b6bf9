//! Settings of sign-in, and what makes them unsafe to start with.

use std::time::Duration;

use chassis::Secret;
use primitives::Currency;
use url::Url;

use crate::google;
use crate::session::{Algorithm, Keyring};

/// Settings of sign-in; part of the api's.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "api_sign_in")]
pub struct Config {
    /// OpenID provider that vouches for people.
    #[arg(
        id = "oidc_issuer",
        long = "oidc-issuer",
        env = "OIDC_ISSUER",
        value_name = "URL",
        default_value = "https://accounts.google.com"
    )]
    pub issuer: Url,
    /// Allows a provider without TLS on another machine, such as the sandbox in a cluster for tests.
    #[arg(
        id = "oidc_allow_http",
        long = "oidc-allow-http",
        env = "OIDC_ALLOW_HTTP",
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        default_value_t = false
    )]
    pub allow_http_issuer: bool,
    /// Client id registered with the provider.
    #[arg(
        id = "google_client_id",
        long = "google-client-id",
        env = "GOOGLE_CLIENT_ID",
        value_name = "ID",
        default_value = ""
    )]
    pub client_id: String,
    /// Client secret registered with the provider.
    #[arg(
        id = "google_client_secret",
        long = "google-client-secret",
        env = "GOOGLE_CLIENT_SECRET",
        value_name = "SECRET",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub client_secret: Secret,
    /// Where the provider sends people back to, exactly as registered; the public URL followed by
    /// /auth/google/callback unless set.
    #[arg(
        id = "api_redirect_url",
        long = "api-redirect-url",
        env = "API_REDIRECT_URL",
        value_name = "URL"
    )]
    pub redirect_url: Option<Url>,
    /// Allows code=test_code without a state, which a sandbox knows; only with a sandbox as provider.
    #[arg(
        id = "api_allow_test_code",
        long = "api-allow-test-code",
        env = "API_ALLOW_TEST_CODE",
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        default_value_t = false
    )]
    pub allow_test_code: bool,
    /// How access tokens are signed: HS256 or EdDSA.
    #[arg(
        id = "api_token_alg",
        long = "api-token-alg",
        env = "API_TOKEN_ALG",
        value_name = "ALGORITHM",
        default_value_t = Algorithm::Hs256
    )]
    pub token_algorithm: Algorithm,
    /// Keys for access tokens, as kid:material,kid:material,…: the first signs, all verify. The
    /// material is base64 of 32 random bytes or more (HS256) or a PKCS#8 private key (EdDSA).
    #[arg(
        id = "api_token_keys",
        long = "api-token-keys",
        env = "API_TOKEN_KEYS",
        value_name = "KEYS",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub token_keys: Secret,
    /// How long an access token is good for.
    #[arg(
        id = "api_access_token_minutes",
        long = "api-access-token-minutes",
        env = "API_ACCESS_TOKEN_MINUTES",
        value_name = "MINUTES",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=1_440)
    )]
    pub access_token_minutes: u32,
    /// How long a refresh token is good for, counted anew at each refresh.
    #[arg(
        id = "api_refresh_token_days",
        long = "api-refresh-token-days",
        env = "API_REFRESH_TOKEN_DAYS",
        value_name = "DAYS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(2..=365)
    )]
    pub refresh_token_days: u32,
    /// Currency of the wallets that are made at a first sign-in.
    #[arg(
        id = "api_wallet_currency",
        long = "api-wallet-currency",
        env = "API_WALLET_CURRENCY",
        value_name = "CODE",
        default_value_t = Currency::NGN
    )]
    pub wallet_currency: Currency,
}

impl Config {
    /// Whether the provider is a sandbox: OpenID Connect demands https, so one without is no real one.
    #[must_use]
    pub fn is_sandbox_issuer(&self) -> bool {
        self.issuer.scheme() == "http"
    }

    /// Refuses settings that nobody should start with; names the setting, never its value.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.issuer.scheme() {
            "https" => {}
            "http" if self.allow_http_issuer || google::is_loopback(&self.issuer) => {}
            "http" => {
                return Err(
                    "OIDC_ISSUER must be https: without TLS anybody on the way can sign in \
                            as anybody (for a sandbox on another machine set OIDC_ALLOW_HTTP=true)"
                        .to_owned(),
                );
            }
            _ => return Err("OIDC_ISSUER must be an https URL".to_owned()),
        }
        if self.issuer.query().is_some() || self.issuer.fragment().is_some() {
            return Err("OIDC_ISSUER must have neither a query nor a fragment".to_owned());
        }
        if self.allow_test_code && !self.is_sandbox_issuer() {
            return Err(
                "API_ALLOW_TEST_CODE must be off: OIDC_ISSUER is a real provider".to_owned()
            );
        }
        if self.client_id.trim().is_empty() {
            return Err("GOOGLE_CLIENT_ID is missing".to_owned());
        }
        if self.client_secret.expose().trim().is_empty() {
            return Err("GOOGLE_CLIENT_SECRET is missing".to_owned());
        }
        let redirects = self.redirect_url.as_ref();
        if redirects
            .is_some_and(|it| !matches!(it.scheme(), "https" | "http") || it.fragment().is_some())
        {
            return Err("API_REDIRECT_URL must be an https URL without a fragment".to_owned());
        }
        self.keyring().map(drop).map_err(|it| format!("API_TOKEN_KEYS cannot be used: {it}"))
    }

    /// The keys that sign access tokens.
    ///
    /// # Errors
    /// Which key is wrong, and how.
    pub fn keyring(&self) -> Result<Keyring, crate::session::KeyringError> {
        Keyring::parse(self.token_algorithm, self.token_keys.expose())
    }

    /// How long an access token is good for.
    #[must_use]
    pub fn access_token_lifetime(&self) -> Duration {
        Duration::from_mins(u64::from(self.access_token_minutes))
    }

    /// How long a refresh token is good for.
    #[must_use]
    pub fn refresh_token_lifetime(&self) -> Duration {
        Duration::from_hours(24).saturating_mul(self.refresh_token_days)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        config: Config,
    }

    const KEYS: &str = "k1:Jm1sCqk2uVb0zq3m8yB4cXo7e5T9hWnR6fLdPaGvKxE=";

    /// The verdict on settings that are fine but for `changes`.
    fn verdict(changes: &[(&str, &str)]) -> Result<(), String> {
        let mut args = vec![
            ("--oidc-issuer", "https://accounts.google.com"),
            ("--google-client-id", "us"),
            ("--google-client-secret", "GOCSPX-1"),
            ("--api-token-keys", KEYS),
        ];
        args.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let all = args.iter().chain(changes).flat_map(|(name, value)| [*name, *value]);
        Args::try_parse_from(std::iter::once("api").chain(all))
            .map_err(|it| it.to_string())
            .and_then(|it| it.config.check())
    }

    #[test]
    fn unsafe_settings_are_refused_before_anything_starts() {
        for (changes, names) in [
            (vec![("--oidc-issuer", "http://sandbox:8090/google")], "OIDC_ISSUER"),
            (vec![("--oidc-issuer", "ftp://accounts.google.com")], "OIDC_ISSUER"),
            (vec![("--oidc-issuer", "https://accounts.google.com?x=1")], "OIDC_ISSUER"),
            (vec![("--api-allow-test-code", "true")], "API_ALLOW_TEST_CODE"),
            (
                vec![("--api-allow-test-code", "true"), ("--oidc-allow-http", "true")],
                "API_ALLOW_TEST_CODE",
            ),
            (vec![("--google-client-id", " ")], "GOOGLE_CLIENT_ID"),
            (vec![("--google-client-secret", "")], "GOOGLE_CLIENT_SECRET"),
            (vec![("--api-redirect-url", "javascript:alert(1)")], "API_REDIRECT_URL"),
            (vec![("--api-token-keys", "")], "API_TOKEN_KEYS"),
            (vec![("--api-token-keys", "k1:c2hvcnQ=")], "API_TOKEN_KEYS"),
            (vec![("--api-token-keys", "k1:your-secret-key")], "API_TOKEN_KEYS"),
        ] {
            let why = verdict(&changes).unwrap_err();
            assert!(why.contains(names), "{changes:?}: {why}");
        }
    }

    #[test]
    fn the_sandbox_on_this_machine_needs_nothing_special() {
        for changes in [
            vec![],
            vec![
                ("--oidc-issuer", "http://127.0.0.1:8090/google"),
                ("--api-allow-test-code", "true"),
            ],
            vec![("--oidc-issuer", "http://sandbox:8090/google"), ("--oidc-allow-http", "true")],
        ] {
            assert_eq!(verdict(&changes), Ok(()), "{changes:?}");
        }
    }

    #[test]
    fn nothing_printed_shows_a_secret() {
        let args = ["api", "--google-client-secret", "GOCSPX-1", "--api-token-keys", KEYS];
        let config = Args::try_parse_from(args).unwrap().config;
        let printed = format!("{config:?}");
        assert!(!printed.contains("GOCSPX") && !printed.contains(KEYS), "{printed}");
    }
}
