//! Whether a byte stream is secured with TLS. Without the feature `tls` it never is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::server::ServerConfig;
#[cfg(feature = "tls")]
use crate::tls::{Secure, TlsClient, TlsError, TlsSession};

/// With what a client secures its stream to a server.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS, and the host that the certificate is to be for.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<(TlsClient, String)>,
}

#[cfg(feature = "tls")]
impl Security {
    /// A TLS connection that begins now; `None` when the stream stays as it is.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn session(&self) -> Result<Option<TlsSession>, TlsError> {
        self.tls.as_ref().map(|(tls, host)| tls.session(host)).transpose()
    }
}

/// A stream that may be secured.
pub(crate) enum MaybeSecure<S> {
    Plain(S),
    #[cfg(feature = "tls")]
    Secure(Box<Secure<S>>),
}

impl<S> MaybeSecure<S> {
    /// A client's end.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "as with TLS"))]
    pub(crate) fn connect(stream: S, security: &Security) -> io::Result<Self> {
        #[cfg(feature = "tls")]
        if let Some(session) = security.session()? {
            return Ok(Self::Secure(Box::new(Secure::new(stream, session))));
        }
        let _ = security;
        Ok(Self::Plain(stream))
    }

    /// A server's end.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "as with TLS"))]
    pub(crate) fn accept(stream: S, config: &ServerConfig) -> io::Result<Self> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &config.tls {
            return Ok(Self::Secure(Box::new(Secure::new(stream, tls.session()?))));
        }
        let _ = config;
        Ok(Self::Plain(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for MaybeSecure<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MaybeSecure<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
