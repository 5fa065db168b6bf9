//! The one cookie: it lives while its person is at the provider.

use poem::http::{HeaderMap, header};

use crate::attempt::ATTEMPT_LIFETIME;

/// The cookie of a sign-in on its way.
pub(super) struct Cookie {
    pub(super) is_https: bool,
}

impl Cookie {
    /// With TLS the name begins with `__Host-`, so that no neighbouring subdomain can plant one.
    const fn name(&self) -> &'static str {
        if self.is_https { "__Host-wallet_sign_in" } else { "wallet_sign_in" }
    }

    pub(super) fn set(&self, value: &str) -> String {
        self.print(value, ATTEMPT_LIFETIME.as_secs())
    }

    pub(super) fn cleared(&self) -> String {
        self.print("", 0)
    }

    fn print(&self, value: &str, seconds: u64) -> String {
        let name = self.name();
        let secure = if self.is_https { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    pub(super) fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let mut pairs =
            lines.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name()).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_bound_to_the_browser() {
        let plain = Cookie { is_https: false };
        assert_eq!(
            plain.set("x.y"),
            "wallet_sign_in=x.y; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"
        );
        let secure = Cookie { is_https: true };
        assert_eq!(
            secure.cleared(),
            "__Host-wallet_sign_in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let cookie = Cookie { is_https: false };
        for (line, expected) in [
            ("wallet_sign_in=x.y", Some("x.y")),
            ("a=b; wallet_sign_in=x.y;c=d", Some("x.y")),
            ("__Host-wallet_sign_in=x.y", None),
            ("my_wallet_sign_in=x.y; b", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, line.parse().unwrap());
            assert_eq!(cookie.read(&headers), expected, "{line}");
        }
    }
}
