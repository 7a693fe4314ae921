-- What grows with traffic: tokens, spent proofs, audit events. Each is
-- partitioned by time and leaves by dropping partitions.

-- jti is a UUIDv7, so ranges of it are ranges of time.
create table authz.tokens (
  jti        uuid        not null,
  digest     bytea       not null, -- SHA-256 of the whole token: what identifies it
  client_id  text        not null,
  resource   text        not null,
  scope      text        not null, -- space-separated
  jkt        text,                 -- null: a bearer token
  issued_at  timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  -- Those of the client and the resource at the time: where they differ from
  -- today's, the token is inactive.
  client_generation   bigint not null,
  resource_generation bigint not null,
  constraint tokens_pkey primary key (jti),
  constraint tokens_digest_check check (octet_length(digest) = 32),
  constraint tokens_lifetime_check check (expires_at > issued_at and expires_at <= issued_at + interval '1 hour')
) partition by range (jti);
create index tokens_digest_idx on authz.tokens (digest);

-- digest is SHA-256 over (jkt, htu, jti) of the proof. Each partition has a
-- unique index on it; the parent cannot, since it lacks the partition key.
create table authz.spent_proofs (
  digest bytea       not null,
  iat    timestamptz not null, -- the proof's own: equal proofs meet in one partition
  constraint spent_proofs_digest_check check (octet_length(digest) = 32)
) partition by range (iat);

create table authz.audit_events (
  id          uuid        not null,
  at          timestamptz not null,
  kind        text        not null,
  actor       text        not null, -- client:ID, operator:NAME, server
  client_id   text,
  resource    text,
  jti         uuid,
  jkt         text,
  request_id  text,
  remote_addr text,
  detail      jsonb,
  -- Who was logged in to the database: what an event says of its actor, its
  -- writer may have made up.
  recorded_by text        not null default session_user,
  constraint audit_events_kind_check check (kind ~ '^[a-z_]+\.[a-z_]+$')
) partition by range (at);

-- A revocation is for good.
create function authz.keep_revoked() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'token % is revoked, and stays so', old.jti using errcode = 'check_violation';
end
$$;
revoke all on function authz.keep_revoked from public;
create trigger tokens_keep_revoked before update on authz.tokens
  for each row when (old.revoked_at is not null) execute function authz.keep_revoked();

grant select, insert, update (revoked_at) on authz.tokens to authz_server;
grant select, insert on authz.spent_proofs to authz_server;
grant insert (id, at, kind, actor, client_id, resource, jti, jkt, request_id, remote_addr, detail)
  on authz.audit_events to authz_server;
