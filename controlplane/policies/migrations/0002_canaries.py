import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('policies', '0001_initial'),
        ('registry', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Canary',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('document', models.JSONField(help_text='sparse: the version it would become')),
                ('ratio', models.FloatField(help_text='part of the instances that it reaches')),
                ('salt', models.CharField(help_text='which instances come first', max_length=32)),
                ('reason', models.TextField()),
                ('author', models.CharField(max_length=200)),
                ('started_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField(db_index=True)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('closed_by', models.CharField(blank=True, max_length=200)),
                ('outcome', models.CharField(blank=True, help_text='empty while it is open', max_length=16)),
            ],
            options={
                'verbose_name_plural': 'canaries',
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='publication',
            name='cohort',
            field=models.CharField(blank=True, default='', max_length=16),
        ),
        migrations.AddField(
            model_name='publication',
            name='ratio',
            field=models.FloatField(blank=True, help_text='canary only: part of the instances', null=True),
        ),
        migrations.AddField(
            model_name='publication',
            name='salt',
            field=models.CharField(blank=True, default='', help_text='canary only', max_length=32),
        ),
        migrations.AddIndex(
            model_name='publication',
            index=models.Index(condition=models.Q(('cohort', 'canary')), fields=['environment', 'service_slug', '-sequence'], name='canary_publications_by_service'),
        ),
        migrations.AddConstraint(
            model_name='publication',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('cohort', ''), ('ratio', None), ('salt', '')), models.Q(('cohort', 'canary'), ('ratio__gte', 0.0), ('ratio__isnull', False), ('ratio__lte', 1.0), models.Q(('salt', ''), _negated=True)), _connector='OR'), name='publication_has_ratio_and_salt_for_a_canary_alone'),
        ),
        migrations.AddField(
            model_name='canary',
            name='service',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='canaries', to='registry.service'),
        ),
        migrations.AddConstraint(
            model_name='canary',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('started_at'))), name='canary_ends_after_it_starts'),
        ),
        migrations.AddConstraint(
            model_name='canary',
            constraint=models.CheckConstraint(condition=models.Q(('ratio__gt', 0.0), ('ratio__lte', 1.0)), name='canary_reaches_some_instances'),
        ),
        migrations.AddConstraint(
            model_name='canary',
            constraint=models.CheckConstraint(condition=models.Q(('salt', ''), _negated=True), name='canary_has_a_salt'),
        ),
        migrations.AddConstraint(
            model_name='canary',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('closed_at', None), ('outcome', '')), models.Q(('closed_at__isnull', False), ('outcome__in', ['promoted', 'ended', 'expired'])), _connector='OR'), name='canary_has_an_outcome_once_closed'),
        ),
        migrations.AddConstraint(
            model_name='canary',
            constraint=models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('service',), name='one_open_canary_per_service'),
        ),
    ]
