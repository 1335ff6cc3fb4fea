# The image of Vouchsafe: one program, and PostgreSQL's clients that it runs.
#
#   cargo build --release && docker build -t vouchsafe .
#
# It runs as a numeric user without rights, and writes nothing but temporary files: with a read-only root file
# system, mount something at /tmp.
FROM docker.io/library/debian:bookworm-slim AS clients

# pgdg: every major, from PostgreSQL's own apt repository. debian: 15 alone, from Debian's.
ARG POSTGRESQL_FROM=pgdg
# Servers 13 and 14 are dumped by 15, every later one by its own major.
ARG POSTGRESQL_MAJORS="15 16 17 18"

# The repository's key is taken out of a package of Debian's, which apt has checked, and not from the network.
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update; \
    apt-get install -y --no-install-recommends ca-certificates; \
    case "$POSTGRESQL_FROM" in \
      pgdg) \
        cd /tmp; \
        apt-get -o APT::Sandbox::User=root download postgresql-common; \
        dpkg-deb --fsys-tarfile postgresql-common_*.deb | tar -x -C / ./usr/share/postgresql-common/pgdg/apt.postgresql.org.asc; \
        rm postgresql-common_*.deb; \
        echo "deb [signed-by=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc] https://apt.postgresql.org/pub/repos/apt bookworm-pgdg main" \
          > /etc/apt/sources.list.d/pgdg.list; \
        apt-get update; \
        majors="$POSTGRESQL_MAJORS" ;; \
      debian) majors=15 ;; \
      *) echo "POSTGRESQL_FROM is pgdg or debian, not $POSTGRESQL_FROM" >&2; exit 1 ;; \
    esac; \
    for major in $majors; do apt-get install -y --no-install-recommends "postgresql-client-$major"; done; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt; \
    # libpq looks its user up: an id that nobody has is an error in places.
    groupadd --gid 65532 vouchsafe; \
    useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vouchsafe

FROM clients
# Where the program is in the build context; it has to be built for Debian 12 or older.
ARG BINARY=target/release/vouchsafe
COPY --chown=0:0 --chmod=0755 ${BINARY} /usr/local/bin/vouchsafe

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Vouchsafe" \
      org.opencontainers.image.description="Kubernetes operator that backs PostgreSQL up, and says Succeeded only after every stored byte was read back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"

# A number: Kubernetes can't tell whether a name is root's.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/vouchsafe"]
