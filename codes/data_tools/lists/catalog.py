"""The datasets for which lists can be built: readers, file names and number of classes."""

from dsanet.data_tools.lists.activitynet import read_activitynet
from dsanet.data_tools.lists.base import DatasetSpec, Role
from dsanet.data_tools.lists.kinetics import read_kinetics, read_mini_kinetics
from dsanet.data_tools.lists.something import read_something_v1, read_something_v2
from dsanet.data_tools.lists.ucf101_hmdb51 import read_hmdb51, read_ucf101

_KINETICS = {
    'train': Role(('train.csv', '*train*.csv')),
    'val': Role(('val.csv', 'validate.csv', '*val*.csv')),
    'test': Role(('test.csv', '*test*.csv')),
}
KNOWN_DATASETS = {
    'kinetics400': DatasetSpec('Kinetics-400', 400, read_kinetics, _KINETICS),
    'kinetics600': DatasetSpec('Kinetics-600', 600, read_kinetics, _KINETICS),
    'kinetics700': DatasetSpec('Kinetics-700', 700, read_kinetics, _KINETICS),
    'mini_kinetics200': DatasetSpec(
        'Mini-Kinetics-200',
        200,
        read_mini_kinetics,
        {
            'train': Role(('*train*.txt',)),
            'val': Role(('*val*.txt',)),
            'kinetics_train': Role(('kinetics*train*.csv', 'train.csv'), required=True),
            'kinetics_val': Role(('kinetics*val*.csv', 'val.csv', 'validate.csv'), required=True),
        },
    ),
    'something_v1': DatasetSpec(
        'Something-Something V1',
        174,
        read_something_v1,
        {
            'labels': Role(('something-something-v1-labels.csv', '*labels*.csv'), required=True),
            'train': Role(('something-something-v1-train.csv', '*train*.csv')),
            'val': Role(('something-something-v1-validation.csv', '*val*.csv')),
            'test': Role(('something-something-v1-test.csv', '*test*.csv')),
        },
        filename_tmpl='{:05d}.jpg',
    ),
    'something_v2': DatasetSpec(
        'Something-Something V2',
        174,
        read_something_v2,
        {
            'labels': Role(('something-something-v2-labels.json', 'labels.json'), required=True),
            'train': Role(('something-something-v2-train.json', 'train.json')),
            'val': Role(('something-something-v2-validation.json', 'validation.json')),
            'test': Role(('*test-answers.csv',)),
        },
        filename_tmpl='{:06d}.jpg',
    ),
    'activitynet': DatasetSpec(
        'ActivityNet v1.3',
        200,
        read_activitynet,
        {'json': Role(('activity_net.v1-3.min.json', 'activity*.json'), required=True)},
    ),
    'ucf101': DatasetSpec(
        'UCF101',
        101,
        read_ucf101,
        {
            'classes': Role(('classInd.txt',), required=True),
            'train': Role(('trainlist0[0-9].txt',), many=True),
            'test': Role(('testlist0[0-9].txt',), many=True),
        },
    ),
    'hmdb51': DatasetSpec(
        'HMDB51', 51, read_hmdb51, {'splits': Role(('*_test_split[0-9].txt',), required=True, many=True)}
    ),
}
