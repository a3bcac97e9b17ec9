from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('policies', '0002_canaries'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='publication',
            name='canary_publications_by_service',
        ),
        migrations.AddIndex(
            model_name='publication',
            index=models.Index(fields=['environment', 'service_slug', 'cohort', '-sequence'], name='publications_by_cohort'),
        ),
    ]
