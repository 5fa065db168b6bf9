//! Postgres and nats-server as children of `wallet dev`; neither, where the environment names a
//! server of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use sandbox::servers::{Nats, Postgres};

use crate::folder::Folder;

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which of them are needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) postgres: bool,
    pub(crate) nats: bool,
}

/// The children that run.
pub(crate) struct Children {
    /// With a database for each service.
    pub(crate) postgres: Option<Postgres>,
    /// With the streams.
    pub(crate) nats: Option<Nats>,
    folder: PathBuf,
}

impl Children {
    /// Starts those that are wanted, in folders of their own.
    pub(crate) async fn start(folder: &Folder, wanted: Wanted) -> anyhow::Result<Self> {
        let postgres = async {
            if !wanted.postgres {
                return Ok(None);
            }
            Postgres::start(&folder.join("postgres")).await.map(Some)
        };
        let nats = async {
            if !wanted.nats {
                return Ok(None);
            }
            Nats::start(&folder.join("nats")).await.map(Some)
        };
        let (postgres, nats) = tokio::try_join!(postgres, nats)?;
        Ok(Self { postgres, nats, folder: folder.join("") })
    }

    /// Resolves when one of them has ended by itself, which it should not.
    pub(crate) async fn ended(&self) -> anyhow::Error {
        loop {
            let postgres = self.postgres.as_ref().filter(|it| !it.is_running());
            let nats = self.nats.as_ref().filter(|it| !it.is_running());
            let gone = match (postgres, nats) {
                (Some(_), _) => Some(("Postgres", "postgres")),
                (None, Some(_)) => Some(("nats-server", "nats")),
                (None, None) => None,
            };
            if let Some((what, name)) = gone {
                let log = self.folder.join(name).join("server.log");
                return anyhow!("{what} has ended by itself; its log is {}", log.display());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops them and waits for their end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some(nats) = self.nats {
            nats.stop().await?;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}
