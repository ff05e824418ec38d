"""A mail server as others run them: TLS by STARTTLS, its users, and now and then a bad day."""

import datetime
import email
import email.policy
import ipaddress
import ssl
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client import Service
from service import free_ports

USER, PASSWORD = "accounts", "mail server's secret"

# This machine, by a name for which the service insists on TLS as it does for any other machine.
HOST = "0.0.0.0"

SECONDS_TO_ARRIVE = 30


class Authority:
    """Whom the service trusts, and the certificate of a server that it vouches for."""

    def __init__(self, directory):
        self.file = directory / "authorities.pem"
        key, name = ec.generate_private_key(ec.SECP256R1()), named("Test authority")
        itself = certificate(name, name, key.public_key(), ca=True).sign(key, hashes.SHA256())
        self.file.write_bytes(pem(itself))
        servers_key = ec.generate_private_key(ec.SECP256R1())
        servers = certificate(named("Mail server"), name, servers_key.public_key(), ca=False)
        servers = servers.sign(key, hashes.SHA256())
        file = directory / "server.pem"
        file.write_bytes(pem(servers) + unencrypted(servers_key))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(file)


def named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(subject, issuer, key, ca):
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    )


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def unencrypted(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class MailServer:
    """Takes mail from whoever signs in over TLS. Runs until it is stopped, and can be started again."""

    def __init__(self, context):
        self.context = context
        [self.port] = free_ports(1)
        self.mails = []
        # Answers to the next recipients, in place of "250 OK".
        self.to_recipients = []
        # How many of the next mails are taken without a word, the connection cut.
        self.silent = 0
        self.start()

    def start(self):
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self.context,
            require_starttls=True,
            auth_required=True,
            authenticator=self.authenticate,
        )
        self.controller.start()

    def stop(self):
        self.controller.stop()

    def authenticate(self, server, session, envelope, mechanism, data):
        known = LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=isinstance(data, LoginPassword) and data == known)

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.to_recipients:
            return self.to_recipients.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        assert session.ssl is not None and session.authenticated
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        self.mails.append(mail)
        if self.silent:
            self.silent -= 1
            server.transport.abort()
        return "250 taken"

    def mail(self, number=1):
        """The mail that is the so-manyth to arrive, waited for."""
        deadline = time.monotonic() + SECONDS_TO_ARRIVE
        while len(self.mails) < number:
            assert time.monotonic() < deadline, f"{len(self.mails)} mails have come, not {number}"
            time.sleep(0.05)
        return self.mails[number - 1]


def text_of(mail):
    return mail.get_body(("plain",)).get_content()


def html_of(mail):
    return mail.get_body(("html",)).get_content()


def service_with(server, authority, name, **settings):
    """A service that sends its mail there."""
    service = Service.on_free_ports(
        name,
        COUNTERSIGN_MAIL__TRANSPORT=f"smtp://{USER}@{HOST}:{server.port}",
        COUNTERSIGN_MAIL__PASSWORD=PASSWORD,
        COUNTERSIGN_MAIL__FROM="Accounts <no-reply@example.org>",
        SSL_CERT_FILE=str(authority.file),
        **settings,
    )
    service.must_not_log(PASSWORD)
    return service
