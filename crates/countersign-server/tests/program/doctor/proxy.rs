//! A proxy that does one thing wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    None,
    /// A header of requests does not arrive.
    LoseOfRequest(&'static str),
    /// A header of answers does not arrive.
    LoseOfAnswer(&'static str),
    /// Every answer has this line, too.
    Add(&'static str),
    /// What stands in an answer's head is replaced.
    Rewrite(&'static str, &'static str),
    /// All `Set-Cookie` become one.
    Fold,
    /// It says itself what it is asked by OPTIONS.
    AnswerOptions(&'static str),
    /// It tells the service that TLS was spoken.
    TellOfTls,
}

/// Its certificate and key.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Stands on `port` before `upstream`, for as long as the test's process lives; with an identity, TLS ends
/// in it.
pub(super) fn stand(port: u16, upstream: u16, fault: Fault, identity: Option<Identity>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let tls = identity.map(|identity| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        Arc::new(config)
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, tls) = (stream.unwrap(), tls.clone());
            thread::spawn(move || match tls {
                None => pass(stream, upstream, fault),
                Some(tls) => {
                    let connection = ServerConnection::new(tls).unwrap();
                    pass(StreamOwned::new(connection, stream), upstream, fault);
                }
            });
        }
    });
}

/// Passes one request on, and its answer back.
fn pass(mut client: impl Read + Write, upstream: u16, fault: Fault) {
    let Some((head, body)) = read_request(&mut client) else {
        return; // somebody who only looked at the certificate
    };
    if let (Fault::AnswerOptions(answer), true) = (fault, head.starts_with("OPTIONS")) {
        client.write_all(answer.as_bytes()).unwrap();
        return;
    }
    let mut lines: Vec<_> = head
        .trim_end()
        .lines()
        .filter(|line| !is_header(line, "connection"))
        .map(str::to_owned)
        .collect();
    if let Fault::LoseOfRequest(name) = fault {
        lines.retain(|line| !is_header(line, name));
    }
    if let Fault::TellOfTls = fault {
        lines.push("X-Forwarded-Proto: https".to_owned());
    }
    lines.push("Connection: close".to_owned());
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).unwrap();
    let text = format!("{}\r\n\r\n", lines.join("\r\n"));
    server.write_all(text.as_bytes()).unwrap();
    server.write_all(&body).unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let text = format!("{}\r\n\r\n{body}", changed(head, fault));
    client.write_all(text.as_bytes()).unwrap();
    client.flush().unwrap();
}

fn changed(head: &str, fault: Fault) -> String {
    let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
    match fault {
        Fault::LoseOfAnswer(name) => lines.retain(|line| !is_header(line, name)),
        Fault::Add(line) => lines.push(line.to_owned()),
        Fault::Rewrite(from, to) => lines
            .iter_mut()
            .for_each(|line| *line = line.replace(from, to)),
        Fault::Fold => {
            let values: Vec<_> = lines
                .iter()
                .filter(|line| is_header(line, "set-cookie"))
                .map(|line| line.split_once(": ").unwrap().1.to_owned())
                .collect();
            lines.retain(|line| !is_header(line, "set-cookie"));
            if !values.is_empty() {
                lines.push(format!("set-cookie: {}", values.join(", ")));
            }
        }
        Fault::None | Fault::LoseOfRequest(_) | Fault::AnswerOptions(_) | Fault::TellOfTls => {}
    }
    lines.join("\r\n")
}

fn is_header(line: &str, name: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
}

fn read_request(client: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find(|line| is_header(line, "content-length"));
    let length = length.map_or(0, |line| {
        line.split_once(':').unwrap().1.trim().parse().unwrap()
    });
    let mut body = vec![0; length];
    client.read_exact(&mut body).ok()?;
    Some((head, body))
}
