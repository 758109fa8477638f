//! A container's last log lines as JSON lines, `{"time", "stream", "line"}` each.
//!
//! Getting and taking apart the log stream is `docker/logs`' business.

use serde::Serialize;

use super::document::Document;
use crate::docker::logs::{LogLine, Logs, last_lines};
use crate::docker::{DockerError, Engine};
use crate::model::application::{Application, Container, ItemKind};
use crate::model::outcome::ReadMethod;

/// One line as it is stored.
#[derive(Serialize)]
struct Stored<'a> {
    time: &'a str,
    stream: &'static str,
    line: &'a str,
    /// Present and true where bytes that are no UTF-8 were replaced by U+FFFD.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lossy: bool,
}

/// The last `count` lines of `container`. A log driver that gives nothing back leaves an empty document with a note.
///
/// # Errors
/// [`DockerError::NotFound`] if the container is gone, or the log could not be read to its end.
pub async fn lines(engine: &Engine, application: &Application, container: &Container, count: u32) -> Result<Document, DockerError> {
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    let logs = last_lines(engine, container, count).await?.unwrap_or_else(|| {
        let driver = &container.log_driver;
        notes.push(format!("container {}: its log driver `{driver}` gives no lines back, so none are saved", container.name));
        Logs::default()
    });
    if logs.dropped > 0 {
        warnings.push(format!("container {}: {} older log lines are not saved, all together are too long", container.name, logs.dropped));
    }
    if logs.shortened > 0 {
        warnings.push(format!("container {}: {} log lines are cut, each is too long", container.name, logs.shortened));
    }
    Ok(Document {
        kind: ItemKind::Logs,
        name: container.name.clone(),
        path: application.logs_path(&container.name),
        bytes: render(&logs.lines),
        method: ReadMethod::Api,
        warnings,
        notes,
    })
}

fn render(lines: &[LogLine]) -> Vec<u8> {
    let mut out = Vec::new();
    for LogLine { time, stream, line } in lines {
        let text = String::from_utf8_lossy(line);
        let lossy = matches!(text, std::borrow::Cow::Owned(_));
        // Writing strings to memory cannot fail.
        let _ = serde_json::to_writer(&mut out, &Stored { time, stream, line: &text, lossy });
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_line_is_one_json_object() {
        let line = |line: &[u8]| LogLine { time: "t".to_owned(), stream: "stderr", line: line.to_vec() };
        let out = String::from_utf8(render(&[line(b"say \"hi\"\x1b[0m"), line(b"\xff")])).unwrap();
        let expected = "{\"time\":\"t\",\"stream\":\"stderr\",\"line\":\"say \\\"hi\\\"\\u001b[0m\"}\n\
                        {\"time\":\"t\",\"stream\":\"stderr\",\"line\":\"\u{fffd}\",\"lossy\":true}\n";
        assert_eq!(out, expected);
    }
}
