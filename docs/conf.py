"""Configuration of the documentation: `make docs` builds it, and treats each warning as an error."""

import contextlib
import io
import os

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from dsanet import __version__, commands
from dsanet.config import registry

project = 'DSANet'
copyright = 'the DSANet contributors'
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.autosummary', 'sphinx.ext.napoleon']
templates_path = ['_templates']
exclude_patterns = ['_build', '_templates']
nitpicky = True
# Types of other projects, whose inventories would need a download; type variables; private base classes.
FOREIGN = (
    'torch|torchvision|numpy|np|npt|nn|cv2|av|mmcv|argparse|abc|collections|contextlib|datetime|enum|logging|'
    'multiprocessing|pathlib|os|fractions|array'
)
nitpick_ignore_regex = [
    ('py:.*', rf'({FOREIGN})\..*'),
    ('py:class', r'dsanet\..*\.([A-Z]|_\w+)'),
    ('py:class', r'Dataset|Sampler|_T_co|_\w+_fn_t'),  # in the inherited constructor of a DataLoader
]

html_theme = 'furo'
html_title = f'DSANet {version}'

myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 4

autodoc_default_options = {
    'members': True,
    'show-inheritance': True,
    'member-order': 'bysource',
    'ignore-module-all': True,
}
autodoc_inherit_docstrings = False
autodoc_typehints_format = 'short'
napoleon_numpy_docstring = False
napoleon_use_ivar = True


class CommandHelp(Directive):
    """Show the help of a command, or of a kind of benchmark: ``{command-help} benchmark model``."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        os.environ['COLUMNS'] = '100'
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            commands.main([*self.arguments, '--help'])
        return [nodes.literal_block(output.getvalue(), output.getvalue(), language='text')]


class TypeTable(SphinxDirective):
    """List the types of a registry in a module or package: ``{type-table} MODELS dsanet.models.heads``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        name, home = self.arguments
        types = {
            k: c for k, c in getattr(registry, name).module_dict.items() if f'{c.__module__}.'.startswith(f'{home}.')
        }
        lines = ['| type | purpose |', '|---|---|']
        for key, cls in sorted(types.items()):
            purpose = (cls.__doc__ or '').strip().split('\n')[0]
            lines.append(f'| {{py:class}}`{key} <{cls.__module__}.{cls.__qualname__}>` | {purpose} |')
        return self.parse_text_to_nodes('\n'.join(lines))


def find_bare_name(app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.Node) -> nodes.Node | None:
    """Resolve a name that docstrings use without its module, such as ``ResNet_I3D``, if it is unique."""
    domain, target = env.domains.python_domain, node.get('reftarget', '')
    names = [name for name in domain.objects if name.endswith(f'.{target}')]
    if node.get('refdomain') != 'py' or len(names) != 1:
        return None
    doc, anchor = domain.objects[names[0]].docname, domain.objects[names[0]].node_id
    return make_refnode(app.builder, node['refdoc'], doc, anchor, [text], names[0])


def setup(app: Sphinx) -> None:
    app.connect('missing-reference', find_bare_name)
    app.add_directive('command-help', CommandHelp)
    app.add_directive('type-table', TypeTable)
