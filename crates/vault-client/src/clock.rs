//! The server's clock, as its answers show it: lives are told by it, never by this machine's.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// When the server wrote an answer (its `Date` header, in whole seconds).
pub(crate) fn of_answer(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// An RFC 3339 time with any offset: a server writes its own zone's.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let sign_at = text.rfind(['+', '-', 'Z']).filter(|&place| place > 10)?;
    let (local, offset) = text.split_at(sign_at);
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let Some((hours, minutes)) = offset[1..].split_once(':') else {
        return (offset == "Z").then_some(local);
    };
    let offset_by =
        Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    if offset.starts_with('+') { local.checked_sub(offset_by) } else { local.checked_add(offset_by) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_offset() {
        let utc = rfc3339("2026-11-23T21:40:57.038332123Z").unwrap();
        assert_eq!(rfc3339("2026-11-23T22:40:57.038332123+01:00"), Some(utc));
        assert_eq!(rfc3339("2026-11-23T16:10:57.038332123-05:30"), Some(utc));
        for wrong in ["", "Z", "2026-11-23", "2026-11-23T21:40:57", "2026-11-23T21:40:57+1", "soon"] {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
        }
    }
}
