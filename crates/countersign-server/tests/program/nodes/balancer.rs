//! A balancer before three nodes, with the very configuration that is in `deploy/`: only ports, addresses
//! and the certificate are put in.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::Node;
use crate::harness::{
    JSON, LOGOUT, Line, PASSWORD, REFRESH, Reply, SignedIn, eventually, free_port, login_body,
};

/// The name that is in the configurations, and under which the nodes are known.
pub(super) const HOST: &str = "auth.example.org";

/// What nodes behind a balancer are told; and that a few browsers may do what thousands do.
pub(super) const BEHIND: &str = "server.public_url = \"https://auth.example.org\"\n\
                                 server.trusted_proxies = [\"127.0.0.1\"]\n\
                                 throttle.refresh = \"100000 then 1ms\"\n\
                                 throttle.login_account_from_address = \"100000 then 1ms\"\n\
                                 throttle.login_account = \"100000 then 1ms\"\n\
                                 throttle.login_address = \"100000 then 1ms\"\n\
                                 throttle.login_device = \"100000 then 1ms\"\n";

/// Where clients come from: not from where the balancer is.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    HaProxy,
    Nginx,
}

/// A balancer that runs until it is dropped.
pub(super) struct Balancer {
    directory: TempDir,
    child: Child,
    tls_port: u16,
    pub(super) open_port: u16,
    tls: Arc<ClientConfig>,
}

/// A client's connection to it.
pub(super) type HttpsLine = Line<StreamOwned<ClientConnection, TcpStream>>;

impl Balancer {
    pub(super) fn before(kind: Kind, nodes: &[Node; 3]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tls_port, open_port) = (free_port(), free_port());
        let path = |name: &str| directory.path().join(name).display().to_string();
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        write("key.pem", &key);
        write("certificate.pem", &certificate);
        write("both.pem", &format!("{certificate}{key}"));
        let mut words: Vec<_> = nodes
            .iter()
            .zip(1..)
            .map(|(node, number)| {
                let (port, operations) = (node.port(), node.place.operations_port);
                let checked = match kind {
                    Kind::HaProxy => format!(" port {operations}"),
                    Kind::Nginx => String::new(),
                };
                let written = format!("10.0.0.1{number}:8000");
                (written, format!("127.0.0.1:{port}{checked}"))
            })
            .collect();
        let mut put = |written: &str, instead: String| words.push((written.to_owned(), instead));
        let mut command = match kind {
            Kind::HaProxy => {
                // Whoever tests may be nobody in particular, and wants it to end with the test.
                for of_root in ["user haproxy", "group haproxy", "chroot /var/lib/haproxy"] {
                    put(of_root, String::new());
                }
                put("bind :80", format!("bind 127.0.0.1:{open_port}"));
                put("bind :443", format!("bind 127.0.0.1:{tls_port}"));
                put("/etc/haproxy/certs/auth.example.org.pem", path("both.pem"));
                write("haproxy.cfg", &configuration("haproxy.cfg", &words));
                program("haproxy", &["-db", "-f", &path("haproxy.cfg")])
            }
            Kind::Nginx => {
                put("listen 80;", format!("listen 127.0.0.1:{open_port};"));
                put("listen 443 ", format!("listen 127.0.0.1:{tls_port} "));
                let certificate = path("certificate.pem");
                put("/etc/nginx/certs/auth.example.org.pem", certificate);
                put("/etc/nginx/certs/auth.example.org.key", path("key.pem"));
                write("countersign.conf", &configuration("nginx.conf", &words));
                write("main.conf", &nginx_around(&path("")));
                let log = path("log");
                program("nginx", &["-e", &log, "-c", &path("main.conf")])
            }
        };
        let log = File::create(path("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv is there");
        let balancer = Self {
            directory,
            child,
            tls_port,
            open_port,
            tls: trusting(made.cert.der().clone()),
        };
        eventually("the balancer is there", || {
            let asked = balancer
                .line()
                .and_then(|mut line| line.ask("GET /docs", "", ""));
            asked.is_ok_and(|reply| reply.status == 200)
        });
        balancer
    }

    /// A connection from [`CLIENT`], over TLS.
    pub(super) fn line(&self) -> io::Result<HttpsLine> {
        let stream = connect_from(CLIENT, self.tls_port)?;
        let name = ServerName::try_from(HOST).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        Ok(Line::over(StreamOwned::new(connection, stream), HOST))
    }

    /// The same in the open.
    pub(super) fn http_line(&self) -> Line {
        Line::over(connect_from(CLIENT, self.open_port).unwrap(), HOST)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

/// Somebody's browser: it keeps a connection for as long as it is kept on the other side.
pub(super) struct Browser<'b> {
    balancer: &'b Balancer,
    line: Option<HttpsLine>,
}

impl<'b> Browser<'b> {
    pub(super) fn of(balancer: &'b Balancer) -> Self {
        Self {
            balancer,
            line: None,
        }
    }

    pub(super) fn ask(&mut self, start: &str, headers: &str, body: &str) -> io::Result<Reply> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.balancer.line()?,
        };
        let reply = line.ask(start, headers, body)?;
        if reply.header("connection") != Some("close") {
            self.line = Some(line);
        }
        Ok(reply)
    }

    pub(super) fn login(&mut self, more: &str) -> io::Result<Reply> {
        let headers = format!("{JSON}{more}");
        self.ask("POST /users/login", &headers, &login_body("ana", PASSWORD))
    }

    pub(super) fn user(&mut self, who: &SignedIn) -> io::Result<Reply> {
        self.ask("GET /users/user", &who.bearer(), "")
    }

    pub(super) fn refresh(&mut self, who: &SignedIn) -> io::Result<Reply> {
        self.ask(REFRESH, &who.cookies(), "")
    }

    pub(super) fn logout(&mut self, who: &SignedIn) -> io::Result<Reply> {
        self.ask(LOGOUT, &who.cookies(), "")
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Debian keeps them where only root looks. They end with the test, however that ends.
fn program(name: &str, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["--pdeathsig", "KILL", "--", name])
        .args(words)
        .env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
    command
}

/// A file of `deploy/`, with other words in some places. All of them must be there.
fn configuration(name: &str, words: &[(String, String)]) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/");
    let mut text = fs::read_to_string(format!("{file}{name}")).unwrap();
    for (written, instead) in words {
        assert!(text.contains(written), "{written} is not in {name}");
        text = text.replace(written, instead);
    }
    text
}

/// What a distribution has around `conf.d`.
fn nginx_around(directory: &str) -> String {
    format!(
        "daemon off;
         master_process off;
         pid {directory}pid;
         events {{ worker_connections 1024; }}
         http {{
             access_log off;
             client_body_temp_path {directory}body;
             proxy_temp_path {directory}proxy;
             fastcgi_temp_path {directory}fastcgi;
             uwsgi_temp_path {directory}uwsgi;
             scgi_temp_path {directory}scgi;
             include {directory}countersign.conf;
         }}
         "
    )
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn connect_from(client: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((client, 0)))?;
        socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    Ok(stream)
}
