-- What a gateway check needs to know of a resource: the URLs that it is reached
-- at, what its calls need, and whether their proofs carry a nonce.
create sequence authz.resource_revisions;
alter table authz.resources
  add column require_nonce boolean not null default false,
  -- A new one with each change: what an instance has kept of a resource holds
  -- for a call only where it is still of this revision.
  add column revision bigint not null default nextval('authz.resource_revisions');

-- Scheme, host, port and path, normalised (RFC 3986 §6.2), without a slash at
-- the end. A URL belongs to one resource.
create table authz.resource_base_urls (
  base_url text not null,
  resource text not null,
  constraint resource_base_urls_pkey primary key (base_url),
  constraint resource_base_urls_resource_fkey foreign key (resource) references authz.resources on delete cascade
);
create index resource_base_urls_resource_idx on authz.resource_base_urls (resource);

-- Which scopes a call needs, by its method and its path below the base URL.
create table authz.routes (
  resource text   not null,
  method   text   not null, -- '' stands for any
  path     text   not null, -- a pattern
  scopes   text[] not null, -- all are needed; none: any token will do
  constraint routes_pkey primary key (resource, method, path),
  constraint routes_resource_fkey foreign key (resource) references authz.resources on delete cascade
);

-- RFC 8705 §2.1.2: the one name in its certificate that a client is known by.
alter table authz.clients
  add column tls_client_auth_san_dns text,
  add column tls_client_auth_san_uri text,
  add constraint clients_tls_client_auth_san_dns_key unique (tls_client_auth_san_dns),
  add constraint clients_tls_client_auth_san_uri_key unique (tls_client_auth_san_uri),
  drop constraint clients_token_endpoint_auth_method_check,
  add constraint clients_token_endpoint_auth_method_check
    check (token_endpoint_auth_method in ('client_secret_basic', 'client_secret_post', 'tls_client_auth')),
  add constraint clients_tls_client_auth_check
    check ((token_endpoint_auth_method = 'tls_client_auth') = (num_nonnulls(tls_client_auth_san_dns, tls_client_auth_san_uri) = 1)
      and num_nonnulls(tls_client_auth_san_dns, tls_client_auth_san_uri) <= 1);

-- What instances keep of all this, and of the clients that are gateways, holds for
-- a call only where it is still of this revision. It is a row and no sequence: it
-- changes for others in the moment that the change itself does. And it is random:
-- a database that was restored, or that lost its last moments in a failover, does
-- not come again to a revision that an instance has seen with something else.
create table authz.gateway_revision (
  only_row boolean not null default true,
  revision bigint  not null,
  constraint gateway_revision_pkey primary key (only_row),
  constraint gateway_revision_only_row_check check (only_row)
);
insert into authz.gateway_revision (revision) values (hashtextextended(gen_random_uuid()::text, 0));

create function authz.next_gateway_revision() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update authz.gateway_revision set revision = hashtextextended(gen_random_uuid()::text, 0);
  return null;
end
$$;
revoke all on function authz.next_gateway_revision from public;

-- They run before a statement locks any row of its own: whoever registers waits
-- for another one here, and never with something that the other one waits for.
create trigger resources_gateway_revision before insert or update or delete or truncate on authz.resources
  for each statement execute function authz.next_gateway_revision();
create trigger resource_scopes_gateway_revision before insert or update or delete or truncate on authz.resource_scopes
  for each statement execute function authz.next_gateway_revision();
create trigger resource_base_urls_gateway_revision before insert or update or delete or truncate on authz.resource_base_urls
  for each statement execute function authz.next_gateway_revision();
create trigger routes_gateway_revision before insert or update or delete or truncate on authz.routes
  for each statement execute function authz.next_gateway_revision();
create trigger gateway_resources_gateway_revision before insert or update or delete or truncate on authz.gateway_resources
  for each statement execute function authz.next_gateway_revision();
-- A client that is new is no gateway yet, and none that fronts nothing is one: to
-- register any number of them ends no table.
create trigger client_secrets_gateway_revision before update or delete or truncate on authz.client_secrets
  for each statement execute function authz.next_gateway_revision();
create trigger clients_gateway_revision before update or delete or truncate on authz.clients
  for each statement execute function authz.next_gateway_revision();

create function authz.next_gateway_revision_of_secret() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from authz.gateway_resources where client_id = new.client_id) then
    update authz.gateway_revision set revision = hashtextextended(gen_random_uuid()::text, 0);
  end if;
  return new;
end
$$;
revoke all on function authz.next_gateway_revision_of_secret from public;
create trigger client_secrets_added_gateway_revision before insert on authz.client_secrets
  for each row execute function authz.next_gateway_revision_of_secret();

-- Also for who writes as a replica does.
alter table authz.resources enable always trigger resources_gateway_revision;
alter table authz.resource_scopes enable always trigger resource_scopes_gateway_revision;
alter table authz.resource_base_urls enable always trigger resource_base_urls_gateway_revision;
alter table authz.routes enable always trigger routes_gateway_revision;
alter table authz.gateway_resources enable always trigger gateway_resources_gateway_revision;
alter table authz.client_secrets enable always trigger client_secrets_gateway_revision;
alter table authz.client_secrets enable always trigger client_secrets_added_gateway_revision;
alter table authz.clients enable always trigger clients_gateway_revision;

grant select on authz.gateway_revision, authz.resource_base_urls, authz.routes to authz_server;
