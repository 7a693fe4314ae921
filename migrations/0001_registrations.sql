-- Resources, clients, their credentials and grants, and the two roles.

-- The server's role is the cluster's, not the database's: another database of
-- the same cluster may have made it already, or be making it right now.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'authz_server') then
    create role authz_server nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;
  when insufficient_privilege then
    raise exception 'the role authz_server is missing and % may not create roles', current_user
      using hint = 'As a superuser: create role authz_server nologin;';
end
$$;

revoke all on schema authz from public;
grant usage on schema authz to authz_server;
grant select on authz.schema_version to authz_server;

create table authz.resources (
  uri          text        not null,
  token_ttl    integer     not null, -- seconds
  allow_bearer boolean     not null,
  created_at   timestamptz not null,
  updated_at   timestamptz not null,
  -- A new one for each registration: tokens of an earlier resource of the same
  -- name carry another. A number and no time, since clocks disagree.
  generation   bigint      not null generated always as identity,
  constraint resources_pkey primary key (uri),
  constraint resources_token_ttl_check check (token_ttl between 1 and 3600)
);

create table authz.resource_scopes (
  resource text not null,
  scope    text not null,
  constraint resource_scopes_pkey primary key (resource, scope),
  constraint resource_scopes_resource_fkey foreign key (resource) references authz.resources on delete cascade
);

create table authz.clients (
  id                         text        not null,
  token_endpoint_auth_method text        not null,
  token_format               text        not null,
  allow_bearer               boolean     not null,
  created_at                 timestamptz not null,
  disabled_at                timestamptz,
  -- A new one for each registration and each disabling: tokens that carry
  -- another are inactive for good.
  generation                 bigint      not null generated always as identity,
  constraint clients_pkey primary key (id),
  constraint clients_token_endpoint_auth_method_check
    check (token_endpoint_auth_method in ('client_secret_basic', 'client_secret_post')),
  constraint clients_token_format_check check (token_format in ('jwt', 'opaque'))
);

-- A secret is 256 random bits made by the server; its SHA-256 digest is enough.
create table authz.client_secrets (
  client_id  text        not null,
  digest     bytea       not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  constraint client_secrets_pkey primary key (client_id, digest),
  constraint client_secrets_client_id_fkey foreign key (client_id) references authz.clients on delete cascade,
  constraint client_secrets_digest_check check (octet_length(digest) = 32)
);

create table authz.grants (
  client_id text not null,
  resource  text not null,
  scope     text not null,
  constraint grants_pkey primary key (client_id, resource, scope),
  constraint grants_client_id_fkey foreign key (client_id) references authz.clients on delete cascade,
  -- A scope or a resource that is granted to someone cannot be removed by accident.
  constraint grants_scope_fkey foreign key (resource, scope) references authz.resource_scopes
);
create index grants_scope_idx on authz.grants (resource, scope);

-- Which resources' tokens a gateway may introspect.
create table authz.gateway_resources (
  client_id text not null,
  resource  text not null,
  constraint gateway_resources_pkey primary key (client_id, resource),
  constraint gateway_resources_client_id_fkey foreign key (client_id) references authz.clients on delete cascade,
  constraint gateway_resources_resource_fkey foreign key (resource) references authz.resources
);
create index gateway_resources_resource_idx on authz.gateway_resources (resource);

-- The server reads registrations; only the owner, which operators' commands
-- log in as, writes them.
grant select on authz.resources, authz.resource_scopes, authz.clients, authz.client_secrets,
  authz.grants, authz.gateway_resources to authz_server;
