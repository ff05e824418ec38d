//! Instants as PostgreSQL keeps them: microseconds since the year 2000.

use std::error::Error;

use jiff::Timestamp;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// From 1970 to 2000.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// A `timestamp with time zone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant(pub(super) Timestamp);

impl<'row> FromSql<'row> for Instant {
    fn from_sql(_: &Type, raw: &'row [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // `infinity` is the greatest number there is, and no instant.
        let microseconds = i64::from_be_bytes(raw.try_into()?)
            .checked_add(EPOCH_MICROSECONDS)
            .ok_or("infinitely late")?;
        Ok(Self(Timestamp::from_microsecond(microseconds)?))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let microseconds = self.0.as_microsecond() - EPOCH_MICROSECONDS;
        out.extend_from_slice(&microseconds.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
