-- Clients that authenticate by keys or certificates of their own, and tokens that
-- are bound to a certificate.

-- A client by private_key_jwt (RFC 7523 §2.2) or self_signed_tls_client_auth (RFC
-- 8705 §2.2) has its public keys here or at a URL; one by tls_client_auth one name
-- in its certificate (RFC 8705 §2.1.2).
alter table authz.clients
  -- As it was read at registration, and not as jsonb: that writes a number of ten
  -- bytes out in a hundred thousand, for each stranger who names the client.
  add column jwks      text,
  add column jwks_uri  text,
  -- The thumbprints (RFC 7638) of jwks, so that who authenticated by one of them a
  -- moment before it was taken away gets no token any more.
  add column key_names text[],
  -- Another one with each change of what it authenticates by that is not kept here:
  -- who authenticated by what stood at jwks_uri before, or by the name that its
  -- certificate had, gets no token any more.
  add column auth_revision bigint not null generated always as identity,
  add column tls_client_auth_subject_dn text,
  add column tls_client_auth_san_ip     text,
  add column tls_client_auth_san_email  text,
  add column tls_client_certificate_bound_access_tokens boolean not null default false,
  add constraint clients_tls_client_auth_subject_dn_key unique (tls_client_auth_subject_dn),
  add constraint clients_tls_client_auth_san_ip_key unique (tls_client_auth_san_ip),
  add constraint clients_tls_client_auth_san_email_key unique (tls_client_auth_san_email),
  drop constraint clients_token_endpoint_auth_method_check,
  add constraint clients_token_endpoint_auth_method_check
    check (token_endpoint_auth_method in ('client_secret_basic', 'client_secret_post', 'private_key_jwt',
      'tls_client_auth', 'self_signed_tls_client_auth')),
  drop constraint clients_tls_client_auth_check,
  add constraint clients_tls_client_auth_check
    check (num_nonnulls(tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri, tls_client_auth_san_ip,
      tls_client_auth_san_email) = (token_endpoint_auth_method = 'tls_client_auth')::integer),
  add constraint clients_keys_check
    check (num_nonnulls(jwks, jwks_uri) = (token_endpoint_auth_method in ('private_key_jwt', 'self_signed_tls_client_auth'))::integer
      and (jwks is null) = (key_names is null)),
  add constraint clients_jwks_check check (octet_length(jwks) <= 65536);

-- Whether it admits tokens that are bound to a certificate and to no DPoP key.
alter table authz.resources
  add column allow_certificate_bound boolean not null default false;

-- The thumbprint of the certificate that a token is bound to (RFC 8705 §3.1). Null:
-- it is bound to none.
alter table authz.tokens
  add column x5t text,
  add constraint tokens_x5t_check check (x5t is null or length(x5t) = 43 and jkt is null) not valid; -- no row has one yet
