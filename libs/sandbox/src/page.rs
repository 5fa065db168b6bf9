//! Plain pages: one style, no script, nothing from elsewhere.

use base64::Engine as _;
use poem::Response;
use poem::http::StatusCode;
use sha2::Digest as _;

const STYLE: &str = "\
:root{color-scheme:light dark;--edge:#8886;--quiet:#777;--strong:#0a7d55}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;\
font:16px/1.5 system-ui,sans-serif}\
main{width:100%;max-width:26rem;border:1px solid var(--edge);border-radius:12px;padding:1.5rem}\
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 1rem}\
p{margin:.4rem 0}.quiet{color:var(--quiet);font-size:.9rem;overflow-wrap:anywhere}\
form{margin:0}label{display:block;margin:1rem 0 .3rem;font-size:.9rem}\
input{width:100%;padding:.6rem;font:inherit;border:1px solid var(--edge);border-radius:8px}\
button{width:100%;margin-top:.7rem;padding:.7rem;font:inherit;border:1px solid var(--edge);\
border-radius:8px;background:none;color:inherit;cursor:pointer;text-align:left}\
button.main{background:var(--strong);border-color:var(--strong);color:#fff;text-align:center;\
font-weight:600}\
footer{margin-top:1.5rem;border-top:1px solid var(--edge);padding-top:.7rem}";

/// Text that is safe between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A whole page around `main`, which is HTML.
pub(crate) fn page(status: StatusCode, title: &str, main: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n{main}\n\
         <footer class=\"quiet\">This is a sandbox: no money moves and no card is charged.</footer>\n\
         </main>\n</body>\n</html>\n"
    );
    let style = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(STYLE));
    // Browsers apply form-action to where a form redirects, too; that is the merchant's page.
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self' http: https:; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    Response::builder()
        .status(status)
        .content_type("text/html; charset=utf-8")
        .header("content-security-policy", policy)
        .header("x-content-type-options", "nosniff")
        .header("referrer-policy", "no-referrer")
        .header("cache-control", "no-store")
        .body(html)
}

/// A page that only says something.
pub(crate) fn says(status: StatusCode, title: &str, sentence: &str) -> Response {
    let main = format!("<h1>{}</h1>\n<p>{}</p>", escape(title), escape(sentence));
    page(status, title, &main)
}

/// Sends the browser elsewhere with GET.
pub(crate) fn see_other(location: &str) -> Response {
    Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header("location", location)
        .header("cache-control", "no-store")
        .finish()
}

/// `location` with more query parameters.
pub(crate) fn with_query(location: &str, more: &[(&str, &str)]) -> Option<String> {
    let mut url = url::Url::parse(location).ok()?;
    url.query_pairs_mut().extend_pairs(more);
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_stays_text() {
        assert_eq!(escape("<a href='\"'>&"), "&lt;a href=&#39;&quot;&#39;&gt;&amp;");
    }

    #[test]
    fn parameters_are_added_to_those_there() {
        let url = with_query("http://127.0.0.1:1/back?a=1", &[("trxref", "x=.y")]);
        assert_eq!(url.as_deref(), Some("http://127.0.0.1:1/back?a=1&trxref=x%3D.y"));
        assert_eq!(with_query("no url", &[]), None);
    }
}
