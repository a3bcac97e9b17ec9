"""What every process shares. `dev`, `test` and `production` add what differs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from controlplane.project.databases import database_settings
from controlplane.project.env import read_environment

BASE_DIR = Path(__file__).resolve().parents[3]
TIDEGATE = read_environment()

DEBUG = False
ALLOWED_HOSTS = [*TIDEGATE.allowed_hosts, TIDEGATE.public_host]
# A proxy may hand on another scheme, name or port than browsers have in their `Origin`.
CSRF_TRUSTED_ORIGINS = [TIDEGATE.public_origin]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "csp",
    "controlplane.resilience.apps.ResilienceConfig",
    "controlplane.access.apps.AccessConfig",
    "controlplane.notifications.apps.NotificationsConfig",
    "controlplane.registry.apps.RegistryConfig",
    "controlplane.policies.apps.PoliciesConfig",
    "controlplane.delivery.apps.DeliveryConfig",
    "controlplane.telemetry.apps.TelemetryConfig",
    "controlplane.slo.apps.SloConfig",
    "controlplane.project.apps.ProjectConfig",
    "dashboards",
]
if importlib.util.find_spec("demo") is not None:
    INSTALLED_APPS.append("demo")  # `manage.py incident`; it refuses to run outside the demo

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "controlplane.access.http.no_store.NoStoreMiddleware",
    "csp.middleware.CSPMiddleware",
    "controlplane.access.http.queries.ReadableQueryMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "controlplane.access.http.session_life.SessionLifeMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "controlplane.project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

DATABASES = {"default": database_settings(TIDEGATE.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": TIDEGATE.redis_url,
        "KEY_PREFIX": "tidegate",
        # A dead cache must cost a page milliseconds, not its deadline.
        "OPTIONS": {"socket_connect_timeout": 0.3, "socket_timeout": 1.0},
    }
}

# scrypt is half the processor time of Django's PBKDF2, and costs a guesser 16 MiB each. The others
# read what was stored before; a password is hashed anew when its owner signs in.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "fleet"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = TIDEGATE.session_idle_s  # from the last use; see SessionLifeMiddleware
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "dashboards.views.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = TIDEGATE.state_dir / "static"
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "dashboards.finders.PlotlyFinder",
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "controlplane.project.static_files.GzipStaticFilesStorage"},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "controlplane.access.http.authentication.OperatorTokenAuthentication",
        "controlplane.access.http.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["controlplane.access.http.parsing.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "controlplane.access.api.description.OperationSchema",
    "EXCEPTION_HANDLER": "controlplane.access.http.problems.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tidegate operator API",
    "DESCRIPTION": (
        "Services and their policies, overrides, canaries and changes; who enforces what since "
        "when, and alerts; service tokens and signing keys; signals. Services themselves read "
        "their policies from /config/v1, which docs/delivery-protocol.md describes."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "ServiceTokenStatusEnum": ["live", "rotated", "expired", "revoked"],
        "SigningKeyStatusEnum": ["next", "active", "retired", "withdrawn"],
    },
}

LOGGING_CONFIG = None  # kernel.logs configures structlog and the standard library together
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # bytes: a policy document is at most 256 KiB
