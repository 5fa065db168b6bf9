//! The body of `POST /auth/google/callback`: JSON from an app, or a form from a provider.
//!
//! JSON is read as strictly as everywhere. A form is written by the provider, which adds fields of
//! its own (`scope`, `authuser`, …): those are passed over, as in the redirect.

use poem::http::header;
use poem::{FromRequest, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::{Example, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};
use url::form_urlencoded;

use crate::rest::body::{Body, Fields, Request};
use crate::rest::problem::Problem;
use crate::sign_in::Callback;

const FORM: &str = "application/x-www-form-urlencoded";

/// What comes back with the redirect.
#[derive(Debug, Object)]
#[oai(rename = "CallbackRequest", example)]
pub(super) struct CallbackFields {
    /// From the provider.
    code: Option<String>,
    /// From the provider, as it was sent there.
    state: Option<String>,
    /// From the provider, instead of a code.
    #[oai(skip_serializing_if_is_none)]
    error: Option<String>,
    /// From the provider: who it is (RFC 9207).
    #[oai(skip_serializing_if_is_none)]
    iss: Option<String>,
}

impl Example for CallbackFields {
    fn example() -> Self {
        Self {
            code: Some("4/0AVMBsJh5".to_owned()),
            state: Some("Qm9yWdGhpc0Jyb3dzZXJBbmROb3RoaW5nRWxzZQ".to_owned()),
            error: None,
            iss: None,
        }
    }
}

impl Request for CallbackFields {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut text = |name| fields.optional_text(name, Ok);
        let (code, state, error, iss) = (text("code"), text("state"), text("error"), text("iss"));
        Some(Self { code: code?, state: state?, error: error?, iss: iss? })
    }
}

/// The body, not read yet.
pub(super) struct CallbackBody {
    content_type: Option<String>,
    bytes: Vec<u8>,
}

impl CallbackBody {
    /// Reads the body.
    pub(super) fn read(self) -> Result<Callback, Problem> {
        let is_form = self.content_type.as_deref().is_some_and(|it| {
            it.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case(FORM))
        });
        if is_form {
            return read_form(&self.bytes);
        }
        let fields = Body::<CallbackFields>::of(self.content_type, self.bytes).read()?;
        let CallbackFields { code, state, error, iss } = fields;
        Ok(Callback { code, state, error, iss })
    }
}

fn read_form(bytes: &[u8]) -> Result<Callback, Problem> {
    let mut callback = Callback::default();
    for (name, value) in form_urlencoded::parse(bytes) {
        let field = match name.as_ref() {
            "code" => &mut callback.code,
            "state" => &mut callback.state,
            "error" => &mut callback.error,
            "iss" => &mut callback.iss,
            _ => continue,
        };
        // One of two values would be ours, the other somebody else's (RFC 6749, section 3.1).
        if field.replace(value.into_owned()).is_some() {
            return Err(Problem::malformed_request());
        }
    }
    Ok(callback)
}

impl<'a> ApiExtractor<'a> for CallbackBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        CallbackFields::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = ["application/json", FORM].map(|content_type| MetaMediaType {
            content_type,
            schema: CallbackFields::schema_ref(),
        });
        Some(MetaRequest { description: None, content: content.into(), required: true })
    }

    async fn from_request(
        request: &'a poem::Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok()).map(str::to_owned);
        Ok(Self {
            content_type,
            bytes: <Vec<u8> as FromRequest>::from_request(request, body).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::problem::Code;

    fn read(content_type: &str, body: &str) -> Result<Callback, Code> {
        let content_type = Some(content_type.to_owned());
        let body = CallbackBody { content_type, bytes: body.as_bytes().to_vec() };
        body.read().map_err(|it| it.code())
    }

    #[test]
    fn json_and_forms_say_the_same() {
        let expected = Callback {
            code: Some("a/b".to_owned()),
            state: Some("c".to_owned()),
            ..Callback::default()
        };
        for (content_type, body) in [
            ("application/json", r#"{"code": "a/b", "state": "c"}"#),
            ("application/json", r#"{"code": "a/b", "state": "c", "error": null}"#),
            (FORM, "code=a%2Fb&state=c&scope=openid+email&authuser=0"),
            ("application/x-www-form-urlencoded; charset=utf-8", "code=a/b&state=c"),
        ] {
            assert_eq!(read(content_type, body), Ok(expected.clone()), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (content_type, body, code) in [
            ("application/json", "code=a", Code::MalformedRequest),
            ("application/json", r#"{"code": 5}"#, Code::InvalidField),
            (FORM, "code=a&code=b", Code::MalformedRequest),
            ("text/plain", "code=a", Code::UnsupportedMediaType),
        ] {
            assert_eq!(read(content_type, body), Err(code), "{content_type} {body}");
        }
    }
}
