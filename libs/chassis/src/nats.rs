//! The connection to NATS: named, patient at the start, stubborn afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};

/// How long a start waits for the server.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// How often the wait looks.
const CONNECT_LOOK: Duration = Duration::from_millis(20);
/// A server that is silent for two of these is taken for gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What a server says to wrong credentials; waiting does not help.
const REFUSED: &str = "authorization violation";

/// Connects as `name`, waiting some seconds for a server that is still starting.
///
/// `url` may name several servers, separated by commas; the first one's user and password are used
/// for all. Afterwards the client reconnects for ever; `/readyz` says when it is not connected.
///
/// # Errors
/// When the address cannot be read, the credentials are refused, or nobody answers in time.
/// The address is not in the text.
pub async fn connect(url: &str, name: &str) -> anyhow::Result<Client> {
    let last_error = Arc::new(Mutex::new(None::<String>));
    let seen = Arc::clone(&last_error);
    let (servers, options) = read(url).context("the NATS URL cannot be read")?;
    let options = options
        .name(name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .event_callback(move |event| {
            let seen = Arc::clone(&seen);
            async move { hear(&event, &seen) }
        });
    let client = options.connect(servers).await.context("failed to connect to NATS")?;
    let last_error = || last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let connected = async {
        while client.connection_state() != State::Connected {
            if last_error().is_some_and(|error| error.contains(REFUSED)) {
                bail!("NATS refuses the credentials");
            }
            tokio::time::sleep(CONNECT_LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(CONNECT_WAIT, connected).await {
        Ok(done) => done.map(|()| client),
        Err(_) => {
            let last = last_error().unwrap_or_else(|| "nobody listens there".to_owned());
            bail!("NATS did not answer within {} s: {last}", CONNECT_WAIT.as_secs())
        }
    }
}

/// The client does not look for credentials in an address, and prints addresses: they part here.
fn read(url: &str) -> anyhow::Result<(Vec<ServerAddr>, ConnectOptions)> {
    let mut servers = Vec::new();
    let mut credentials = None;
    for url in url.split(',').map(str::trim) {
        // The cause may quote the address, and with it the password.
        let Ok(given) = url.parse::<ServerAddr>() else {
            bail!("one of its addresses is not a URL")
        };
        if credentials.is_none() {
            credentials = given.username().map(|user| (decode(user), given.password().map(decode)));
        }
        let host = given.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        servers.push(format!("{}://{host}:{}", given.scheme(), given.port()).parse()?);
    }
    let options = match credentials {
        None => ConnectOptions::new(),
        Some((user, Some(password))) => ConnectOptions::with_user_and_password(user, password),
        Some((token, None)) => ConnectOptions::with_token(token),
    };
    Ok((servers, options))
}

/// Undoes `%40` and the like.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hear(event: &Event, last_error: &Mutex<Option<String>>) {
    match event {
        Event::Connected | Event::Draining | Event::Closed => tracing::debug!("NATS: {event}"),
        Event::Disconnected | Event::LameDuckMode | Event::SlowConsumer(_) => {
            tracing::warn!("NATS: {event}");
        }
        Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!("NATS: {event}");
            *last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_credentials() {
        let shown = |url| read(url).map(|(servers, _)| format!("{servers:?}"));
        for url in
            ["nats://me:hunter2@127.0.0.1:4222", "nats://hunter2@[::1]:4222, tls://me:hunter2@b"]
        {
            let servers = shown(url).unwrap();
            assert!(servers.contains(":4222") || servers.contains("4222"), "{servers}");
            assert!(!servers.contains("hunter2"), "{servers}");
        }
        let error = format!("{:#}", shown("nats://me:hunter2@[bad").unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_password_may_hold_any_character() {
        for (text, decoded) in
            [("a%40b%2Fc", "a@b/c"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%C3%A9", "é")]
        {
            assert_eq!(decode(text), decoded);
        }
    }
}
