-- What an instance keeps of a client holds for a request only where the client is
-- still of this revision, which the statement that answers the request looks at.

-- Another one with each change of the client itself, its secrets, its grants, or what
-- it fronts. It is random, as authz.gateway_revision is and for the same reason.
alter table authz.clients add column revision bigint not null default 1;
alter table authz.clients alter column revision set default hashtextextended(gen_random_uuid()::text, 0);

-- For the same reason no sequence.
alter table authz.resources alter column revision set default hashtextextended(gen_random_uuid()::text, 0);

-- A new revision alone is no change that gateway tables are to be read anew for. All
-- other columns are.
drop trigger clients_gateway_revision on authz.clients;
create trigger clients_gateway_revision before delete or truncate on authz.clients
  for each statement execute function authz.next_gateway_revision();
create trigger clients_updated_gateway_revision before update of
    id, token_endpoint_auth_method, token_format, allow_bearer, created_at, disabled_at, generation, require_nonce,
    tls_client_auth_san_dns, tls_client_auth_san_uri, dpop_keys, jwks, jwks_uri, key_names, auth_revision,
    tls_client_auth_subject_dn, tls_client_auth_san_ip, tls_client_auth_san_email, tls_client_certificate_bound_access_tokens
  on authz.clients
  for each statement execute function authz.next_gateway_revision();
alter table authz.clients enable always trigger clients_gateway_revision;
alter table authz.clients enable always trigger clients_updated_gateway_revision;

create function authz.next_client_revision() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.revision := hashtextextended(gen_random_uuid()::text, 0);
  return new;
end
$$;

create function authz.revise_client(p_client_id text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- One that this transaction has registered or changed has a new revision already,
  -- which nobody has seen.
  if exists (select from authz.clients where id = p_client_id and xmin <> pg_current_xact_id()::xid) then
    update authz.clients set revision = default where id = p_client_id;
  end if;
end
$$;

create function authz.next_revision_of_client() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    perform authz.revise_client(old.client_id);
  end if;
  if tg_op <> 'DELETE' then
    perform authz.revise_client(new.client_id);
  end if;
  return null;
end
$$;

create function authz.next_revision_of_all_clients() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update authz.clients set revision = default;
  return null;
end
$$;

revoke all on function authz.next_client_revision, authz.revise_client, authz.next_revision_of_client, authz.next_revision_of_all_clients from public;

create trigger clients_revision before update on authz.clients
  for each row execute function authz.next_client_revision();
create trigger client_secrets_client_revision after insert or update or delete on authz.client_secrets
  for each row execute function authz.next_revision_of_client();
create trigger client_secrets_truncated_client_revision after truncate on authz.client_secrets
  for each statement execute function authz.next_revision_of_all_clients();
create trigger grants_client_revision after insert or update or delete on authz.grants
  for each row execute function authz.next_revision_of_client();
create trigger grants_truncated_client_revision after truncate on authz.grants
  for each statement execute function authz.next_revision_of_all_clients();
create trigger gateway_resources_client_revision after insert or update or delete on authz.gateway_resources
  for each row execute function authz.next_revision_of_client();
create trigger gateway_resources_truncated_client_revision after truncate on authz.gateway_resources
  for each statement execute function authz.next_revision_of_all_clients();

-- Also for who writes as a replica does.
alter table authz.clients enable always trigger clients_revision;
alter table authz.client_secrets enable always trigger client_secrets_client_revision;
alter table authz.client_secrets enable always trigger client_secrets_truncated_client_revision;
alter table authz.grants enable always trigger grants_client_revision;
alter table authz.grants enable always trigger grants_truncated_client_revision;
alter table authz.gateway_resources enable always trigger gateway_resources_client_revision;
alter table authz.gateway_resources enable always trigger gateway_resources_truncated_client_revision;
