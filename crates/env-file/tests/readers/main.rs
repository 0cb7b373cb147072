//! Our reader beside the readers of .env files that people run: Docker Compose, python-dotenv and dotenvy.

mod oracle;
mod random;
mod rules;
mod shapes;
