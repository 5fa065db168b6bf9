//! What an operation says in the specification about who may call it. It checks nothing:
//! [`crate::rest::door::Door`] does, with the request these carry.

use std::ops::Deref;

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

const ACCESS_TOKEN: &str = "AccessToken";
const API_KEY: &str = "ApiKey";

/// The operation takes an access token or an API key.
pub struct Credentials<'a>(&'a Request);

/// The operation takes an access token only.
pub struct PersonCredentials<'a>(&'a Request);

impl Deref for Credentials<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.0
    }
}

impl Deref for PersonCredentials<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.0
    }
}

impl<'a> ApiExtractor<'a> for Credentials<'a> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_access_token(registry);
        registry.create_security_scheme(
            API_KEY,
            MetaSecurityScheme {
                ty: "apiKey",
                description: Some(
                    "A service's key, made at /keys/create. It acts on its person's wallet, within its permissions.",
                ),
                name: Some("x-api-key"),
                key_in: Some("header"),
                scheme: None,
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![ACCESS_TOKEN, API_KEY]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(request))
    }
}

impl<'a> ApiExtractor<'a> for PersonCredentials<'a> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_access_token(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![ACCESS_TOKEN]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(request))
    }
}

fn register_access_token(registry: &mut Registry) {
    registry.create_security_scheme(
        ACCESS_TOKEN,
        MetaSecurityScheme {
            ty: "http",
            description: Some("A person's access token, from signing in at /auth/google."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    );
}
