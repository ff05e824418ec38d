//! The bare statements, on the least that a pool can be: what a store over PostgreSQL is compared with.

use std::sync::{Arc, Mutex};

use countersign_core::session::SessionId;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, NoTls, Statement};

const ROTATE: &str = "UPDATE countersign_session SET generation = $2 + 1, rotated_at = $3
     WHERE id = $1 AND generation = $2 AND ended_at IS NULL
         AND EXISTS (SELECT 1 FROM auth_user WHERE auth_user.id = user_id AND is_active)
     RETURNING 1";

const READ: &str = "SELECT * FROM countersign_session
     LEFT JOIN auth_user ON auth_user.id = countersign_session.user_id
     WHERE countersign_session.id = $1";

/// The least that a pool can be.
pub(crate) struct BarePool {
    free: Semaphore,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    client: Client,
    rotate: Statement,
    read: Statement,
}

impl BarePool {
    /// So many connections to a database.
    pub(crate) async fn open(url: &str, count: usize) -> Arc<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a server");
            tokio::spawn(connection);
            connections.push(Connection {
                rotate: client.prepare(ROTATE).await.expect("a good statement"),
                read: client.prepare(READ).await.expect("a good statement"),
                client,
            });
        }
        Arc::new(Self {
            free: Semaphore::new(count),
            connections: Mutex::new(connections),
        })
    }

    fn take(&self) -> Connection {
        let mut connections = self.connections.lock().expect("nobody panics");
        connections.pop().expect("there are as many as permits")
    }

    fn give_back(&self, connection: Connection) {
        let mut connections = self.connections.lock().expect("nobody panics");
        connections.push(connection);
    }

    /// Rotates a session from this generation on.
    pub(crate) async fn rotate(&self, session: SessionId, from: u32) {
        let _permit = self.free.acquire().await.expect("it stays open");
        let connection = self.take();
        let generation = i64::from(from);
        let rotated = connection
            .client
            .query(&connection.rotate, &[&session.0, &generation, &0_i64])
            .await;
        assert_eq!(rotated.expect("the server works").len(), 1);
        self.give_back(connection);
    }

    /// Reads a session and its user.
    pub(crate) async fn read(&self, session: SessionId) {
        let _permit = self.free.acquire().await.expect("it stays open");
        let connection = self.take();
        let read = connection
            .client
            .query(&connection.read, &[&session.0])
            .await;
        assert_eq!(read.expect("the server works").len(), 1);
        self.give_back(connection);
    }
}
